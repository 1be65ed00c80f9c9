"""What EWC and its relatives share: a spring on every parameter, as stiff as the parameter is important."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from clx.model.base import Model
from clx.regularizer.base import Regularizer
from clx.types import Batch, Experience, Objective


class QuadraticPenalty(Regularizer):
    """1/2 sum_i importance_i (theta_i - anchor_i)^2. Subclasses fill `importance` and `anchor` in after_task.

    Both are found by the parameter's name and grow with it; new rows have importance 0.
    """

    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.names: dict[str, str] = {}  # parameter -> its key here, which cannot hold a dot
        self.places: list[tuple[dict[str, Any], str]] = []  # of the same: the table of its module, and its name there
        self.active = False

    def adaptation(self, model: Model, experience: Experience) -> None:
        self.active = experience.index > 0
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        for name, parameter in trained.items():
            for kind in ("importance", "anchor"):
                key = f"{kind}:{name.replace('.', '/')}"
                self.register_buffer(key, grown(getattr(self, key, None), parameter))
        self.hold(model, trained)

    def hold(self, model: Model, names: Iterable[str]) -> None:
        """Put springs on the parameters of these names, and on no others."""
        self.names = {name: name.replace(".", "/") for name in names}
        split = [name.rpartition(".") for name in self.names]
        self.places = [(model.get_submodule(module)._parameters, own) for module, _, own in split]
        self.active = self.active and bool(self.names)
        for name, key in self.names.items():
            for kind in ("away", "pull"):  # of this step; in memory of their own, which is not asked for at each
                zeros = torch.zeros_like(model.get_parameter(name), requires_grad=False)
                self.register_buffer(f"{kind}:{key}", zeros, persistent=False)

    def held(self, *kinds: str) -> list[list[Tensor]]:
        """The parameters that have a spring, and what there is of each kind (importance, anchor) for them."""
        # Looked up by place, not kept: moving to a device, and training several runs as one, put other tensors there.
        keys, mine = self.names.values(), self._buffers
        beside: Any = [[mine[f"{kind}:{key}"] for key in keys] for kind in kinds]
        return [[table[name] for table, name in self.places], *beside]

    def penalty(self, model: Model, batch: Batch, objective: Objective) -> Tensor | None:
        if not self.active:
            return None
        lists = self.held("importance", "anchor", "away", "pull")
        energy: Tensor = Springs.apply(0, *(tensor for kind in lists for tensor in kind))
        return energy

    @torch.no_grad()
    def set_anchor(self) -> None:
        """Hold the parameters where they are now."""
        parameters, anchor = self.held("anchor")
        torch._foreach_copy_(anchor, parameters)


class Springs(torch.autograd.Function):
    """1/2 sum f (p - a)^2 over parameters p, importances f and anchors a; tensors: all p, all f, all a, and two tensors
    for each p that are overwritten, with p - a and with the gradient f (p - a), which so comes along with the value.

    runs: leading dimensions of every tensor, [*runs, ...], that the sum leaves. Returns the energy [*runs].
    """

    @staticmethod
    def forward(runs: int, *tensors: Tensor) -> Tensor:
        parameters, importance, anchor, away, pull = fifths(tensors)
        if away[0].is_cuda:  # a kernel for all of them
            torch._foreach_copy_(away, parameters)
            torch._foreach_sub_(away, anchor)
            torch._foreach_copy_(pull, away)
            torch._foreach_mul_(pull, importance)
        else:  # one by one anyway, and so without copies
            for p, f, a, difference, product in zip(parameters, importance, anchor, away, pull, strict=True):
                torch.mul(torch.sub(p, a, out=difference), f, out=product)
        return torch.stack([inner(a, b, runs) for a, b in zip(away, pull, strict=True)]).sum(0).div_(2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004 - torch's signature
        ctx.runs = inputs[0]
        ctx.save_for_backward(*fifths(inputs[1:])[-1])  # torch notices where a later call has overwritten them

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        pull = ctx.saved_tensors
        if ctx.runs == 0:
            gradients = torch._foreach_mul(pull, upstream)
        else:
            gradients = tuple(p * upstream.view(*upstream.shape, *[1] * (p.dim() - ctx.runs)) for p in pull)
        return None, *gradients, *[None] * (4 * len(pull))

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[Any], runs: int, *tensors: Tensor) -> tuple[Tensor, int]:  # noqa: ARG004 - the same
        """Of several runs at once, which are the first dimension of every tensor then."""
        assert all(dim == 0 for dim in in_dims[1:])
        energy: Tensor = Springs.apply(runs + 1, *tensors)
        return energy, 0


def fifths(tensors: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    """Five lists of as many."""
    count = len(tensors) // 5
    return [tensors[start : start + count] for start in range(0, len(tensors), count)]


def inner(a: Tensor, b: Tensor, runs: int) -> Tensor:
    """Sum of a * b over all dimensions but the first `runs`."""
    if runs == 0:
        return torch.dot(a.flatten(), b.flatten())  # no product is written down
    return (a * b).flatten(runs).sum(-1)


def grown(old: Tensor | None, parameter: Tensor) -> Tensor:
    """Zeros in the parameter's shape with old in the first rows. Raises ValueError where old does not fit in."""
    fresh = torch.zeros_like(parameter, requires_grad=False)
    if old is not None:
        if old.dim() != fresh.dim() or any(o > n for o, n in zip(old.shape, fresh.shape, strict=True)):
            raise ValueError(f"a parameter of shape {tuple(old.shape)} became {tuple(fresh.shape)}; it may only grow")
        fresh[tuple(slice(size) for size in old.shape)] = old
    return fresh
