"""The same modules of several runs as one: tensors [S, ...] of all S runs, and what each run draws, in one call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from clx.buffer.base import Buffer
from clx.strategy.finetune import Finetune
from clx.types import Batch

Request = tuple[Any, ...]  # ("replay", samples) or ("mask", shape, keep probability)
Turn = Callable[[int], contextlib.AbstractContextManager[None]]  # the global generators of run number i, while entered


class Unbatchable(Exception):
    """Why several runs cannot be trained as one; nothing of them has been changed."""


class Stack:
    """Parameters and buffers of the same modules in several runs, the strategy first, as tensors [S, ...].

    Until close() those of each run are parts of the stacked ones: what changes here changes there. trained: the
    stacked tensors that want a gradient. Raises Unbatchable where the runs' modules differ.
    """

    def __init__(self, runs: Sequence[Sequence[nn.Module]]) -> None:
        slots = [list(_slots(modules)) for modules in runs]
        if any([key for _, key, _ in mine] != [key for _, key, _ in slots[0]] for mine in slots):
            raise Unbatchable("the runs' networks differ")
        self.tensors: list[Tensor] = []
        self.own: list[tuple[tuple[Tensor, ...], list[Tensor]]] = []  # each run's tensor, and its memory
        self.places: list[tuple[dict[str, Any], str, int]] = []  # where the first run's modules hold a tensor, which
        self.position: dict[int, int] = {}  # id of the first run's tensor -> its place among the stacked ones
        for found in zip(*slots, strict=True):
            (table, key, first), tensors = found[0], tuple(tensor for _, _, tensor in found)
            if id(first) not in self.position:
                self._check(key, tensors)
                self.position[id(first)] = len(self.tensors)
                self.tensors.append(_stacked(tensors).requires_grad_(first.requires_grad))
                self.own.append((tensors, [t.data for t in tensors]))
            self.places.append((table, key, self.position[id(first)]))
        for stacked, (tensors, _) in zip(self.tensors, self.own, strict=True):
            for tensor, part in zip(tensors, stacked.detach().unbind(), strict=True):
                tensor.data = part
        self.trained = [tensor for tensor in self.tensors if tensor.requires_grad]
        # What a forward pass may write, running statistics for one: buffers of what is in training, in the strategy.
        training = [module for module in runs[0][0].modules() if module.training]
        self.written = [self.of(b) for module in training for b in module._buffers.values() if b is not None]

    def _check(self, key: str, tensors: Sequence[Tensor]) -> None:
        kinds = {(tensor.shape, tensor.dtype, tensor.requires_grad) for tensor in tensors}
        if len(kinds) > 1:
            raise Unbatchable(f"{key} differs in shape between the runs")

    def of(self, tensor: Tensor) -> Tensor:
        """The stacked tensor of one of the first run's. Raises Unbatchable for any other."""
        if id(tensor) not in self.position:
            raise Unbatchable("the optimizer is given tensors that no module holds")
        return self.tensors[self.position[id(tensor)]]

    @contextlib.contextmanager
    def placed(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Put these into the first run's modules, in place of its own."""
        before = [table[key] for table, key, _ in self.places]
        try:
            for table, key, position in self.places:
                table[key] = tensors[position]
            yield
        finally:
            for (table, key, _), tensor in zip(self.places, before, strict=True):
                table[key] = tensor

    @torch.no_grad()
    def share_gradients(self) -> None:
        """Let each run's gradients be parts of the stacked ones."""
        for stacked, (tensors, _) in zip(self.tensors, self.own, strict=True):
            if stacked.requires_grad:
                parts = [None] * len(tensors) if stacked.grad is None else stacked.grad.unbind()
                for tensor, part in zip(tensors, parts, strict=True):
                    tensor.grad = part

    @torch.no_grad()
    def collect_gradients(self) -> None:
        """Take back what the runs have made of them, where that is not the same memory."""
        for stacked, (tensors, _) in zip(self.tensors, self.own, strict=True):
            given = [tensor.grad for tensor in tensors if tensor.grad is not None]
            if not stacked.requires_grad or not given:
                continue
            if len(given) < len(tensors):
                raise RuntimeError("some of the runs have a gradient where others have none")
            if stacked.grad is None or any(
                g.data_ptr() != part.data_ptr() for g, part in zip(given, stacked.grad, strict=True)
            ):
                stacked.grad = torch.stack(given)

    @torch.no_grad()
    def close(self) -> None:
        """Give every run its own memory again, with what is in it now."""
        for tensors, memories in self.own:
            for tensor, memory in zip(tensors, memories, strict=True):
                memory.copy_(tensor.data)
                tensor.data, tensor.grad = memory, None


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """[S, ...]; a matrix lies in memory as its transpose: so its gradient comes out of a batched product with inputs,
    and autograd, which wants one that lies as its parameter does, need not copy it."""
    whole = torch.stack([tensor.detach() for tensor in tensors])
    trained = tensors[0].requires_grad and whole.dim() == 3
    return whole.mT.contiguous().mT if trained else whole


def _slots(modules: Sequence[nn.Module]) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    """Everything that the modules hold: (where, key, tensor). Raises Unbatchable for tensors that they hide."""
    for whole in modules:
        for module in whole.modules():
            for name, value in vars(module).items():
                items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
                hidden = isinstance(value, Tensor) or any(isinstance(item, Tensor) for item in items)
                if hidden and name not in ("_parameters", "_buffers"):
                    raise Unbatchable(f"{type(module).__name__}.{name} is neither a parameter nor a registered buffer")
            for table in (module._parameters, module._buffers):
                yield from ((table, key, tensor) for key, tensor in table.items() if tensor is not None)


class Wanted(Exception):
    """The objective asks for a draw that has not been made: this one, after the first `after` of those made."""

    def __init__(self, request: Request, after: int) -> None:
        super().__init__(request)
        self.request, self.after = request, after


class Draws:
    """What an objective draws at random, by each run's own generators, outside of the call for all runs.

    What a step has asked for is drawn before the next one; where it asks for something else, the draws are taken
    back and the call is made again. It assigns nothing, so that may be done.
    """

    def __init__(self, strategies: Sequence[Finetune], turn: Turn) -> None:
        self.buffers = [s.buffer for s in strategies]
        self.strategies, self.turn = strategies, turn
        self.requests: list[Request] = []
        self.values: list[dict[str, Tensor]] = []  # of each request, [S, ...]
        self._before: list[Any] = []
        self._used = 0
        self._inside: list[dict[str, Tensor]] = []  # the values of one run, within the call
        # Where torch draws a mask by a way of its own (on a GPU, of whole channels), vmap refuses.
        self.dropouts = [
            m
            for m in strategies[0].modules()
            if type(m) is nn.Dropout and m.p < 1 and strategies[0].device.type == "cpu"
        ]

    def begin(self) -> None:
        """Draw what the last step asked for."""
        self._before = []
        self.values = []
        if self.requests:
            self._save()
            self.values = [self._draw(request) for request in self.requests]

    def _save(self) -> None:
        for number, buffer in enumerate(self.buffers):
            with self.turn(number):
                self._before.append((torch.get_rng_state(), None if buffer is None else buffer.draw.get_state()))

    def take_back(self, keep: int) -> None:
        """Put the generators back to where they were after the first `keep` draws."""
        del self.requests[keep:], self.values[keep:]
        if not self._before:
            return
        for number, (buffer, (random, drawn)) in enumerate(zip(self.buffers, self._before, strict=True)):
            with self.turn(number):
                torch.set_rng_state(random)
            if buffer is not None:
                buffer.draw.set_state(drawn)
        for request in self.requests:
            self._draw(request)

    def answer(self, wanted: Wanted) -> None:
        """Draw what was asked for."""
        if not self._before:
            self._save()
        if len(self.requests) > wanted.after:
            self.take_back(wanted.after)
        self.requests.append(wanted.request)
        self.values.append(self._draw(wanted.request))

    def end(self) -> None:
        """After the call: nothing must have been drawn that it did not use."""
        if self._used < len(self.requests):
            self.take_back(self._used)

    def tensors(self) -> list[Tensor]:
        """All that has been drawn, one after the other."""
        return [tensor for value in self.values for tensor in value.values()]

    def _draw(self, request: Request) -> dict[str, Tensor]:
        parts: list[dict[str, Tensor]] = []
        for number, buffer in enumerate(self.buffers):
            with self.turn(number):
                if request[0] == "mask":
                    parts.append({"mask": torch.empty(request[1]).bernoulli_(request[2]).div_(request[2])})
                else:
                    assert buffer is not None
                    batch = buffer.sample(request[1])
                    parts.append({"x": batch.x, "y": batch.y, "t": batch.t, **batch.fields})
        if any({k: v.shape for k, v in part.items()} != {k: v.shape for k, v in parts[0].items()} for part in parts):
            raise Unbatchable("the runs replay different numbers of samples")
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    @contextlib.contextmanager
    def placed(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Let the first run's objective find one run's draws where it looks for its buffer and its dropout.

        tensors: of one run, as tensors() has those of all.
        """
        first, left, self._used = self.strategies[0], iter(tensors), 0
        self._inside = [{name: next(left) for name in value} for value in self.values]
        if first.buffer is not None:
            first.buffer = StandIn(self, first.buffer)
        for dropout in self.dropouts:
            if dropout.training and dropout.p > 0:
                vars(dropout)["forward"] = _masking(self, dropout.p)
        try:
            yield
        finally:
            first.buffer = self.buffers[0]
            for dropout in self.dropouts:
                vars(dropout).pop("forward", None)

    def take(self, request: Request) -> dict[str, Tensor]:
        """The next draw, of one run. Raises Wanted where it has not been made."""
        if self._used == len(self._inside) or self.requests[self._used] != request:
            raise Wanted(request, self._used)
        self._used += 1
        return self._inside[self._used - 1]


def _masking(draws: Draws, p: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x * draws.take(("mask", tuple(x.shape), 1 - p))["mask"]


class StandIn(Buffer):
    """A buffer within the call for all runs: it gives what each run's own has drawn, and says nothing else."""

    def __init__(self, draws: Draws, buffer: Buffer) -> None:
        self.draws, self.size, self.capacity, self.seed = draws, len(buffer), buffer.capacity, buffer.seed

    def sample(self, count: int) -> Batch:
        parts = dict(self.draws.take(("replay", count)))
        return Batch(parts.pop("x"), parts.pop("y"), parts.pop("t"), fields=parts)


def call(function: Callable[..., dict[str, Tensor]], stack: Stack, draws: Draws, *data: Tensor) -> dict[str, Tensor]:
    """function(*data of one run) for all runs at once; data and what it returns: tensors [S, ...].

    It sees the first run's modules, buffer and dropout, filled with each run's own numbers.
    """
    count, written = len(stack.tensors), [tensor.clone() for tensor in stack.written]
    names: list[str] = []

    def single(*given: Tensor) -> tuple[Tensor, ...]:
        tensors, own, drawn = given[:count], given[count : count + len(data)], given[count + len(data) :]
        with stack.placed(tensors), draws.placed(drawn):
            found = function(*own)
        names[:] = found
        return tuple(found.values())

    draws.begin()
    while True:
        try:
            # One flat list of tensors: vmap's way through nested ones takes as long as a small layer.
            result = vmap(single)(*stack.tensors, *data, *draws.tensors())
        except Exception as error:
            for tensor, values in zip(stack.written, written, strict=True):
                tensor.copy_(values)
            if not isinstance(error, Wanted):
                raise
            draws.answer(error)
        else:
            draws.end()
            return dict(zip(names, result, strict=True))
