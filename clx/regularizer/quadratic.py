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
        self.active = self.active and bool(self.names)
        split = [name.rpartition(".") for name in self.names]
        self.places = [(model.get_submodule(module)._parameters, own) for module, _, own in split]

    def held(self, *kinds: str) -> list[list[Tensor]]:
        """The parameters that have a spring, and what there is of each kind (importance, anchor) for them."""
        # Looked up by place, not kept: moving to a device, and training several runs as one, put other tensors there.
        keys, mine = self.names.values(), self._buffers
        beside: Any = [[mine[f"{kind}:{key}"] for key in keys] for kind in kinds]
        return [[table[name] for table, name in self.places], *beside]

    def penalty(self, model: Model, batch: Batch, objective: Objective) -> Tensor | None:
        if not self.active:
            return None
        return self.springs()[0]

    def springs(self) -> tuple[Tensor, ...]:
        """The penalty, and its gradient for each parameter that has a spring."""
        parameters, importance, anchor = self.held("importance", "anchor")
        found: tuple[Tensor, ...] = Springs.apply(0, *parameters, *importance, *anchor)
        return found

    @torch.no_grad()
    def set_anchor(self) -> None:
        """Hold the parameters where they are now."""
        parameters, anchor = self.held("anchor")
        torch._foreach_copy_(anchor, parameters)


class Springs(torch.autograd.Function):
    """1/2 sum f (p - a)^2 over as many parameters p as there are importances f and anchors a, in this order.

    Its gradient f (p - a) comes along with it, so that the way back costs one product. runs: leading dimensions,
    [*runs, ...], that the sum leaves. Returns the energy [*runs], and the gradients, which have none of their own.
    """

    @staticmethod
    def forward(runs: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = len(tensors) // 3
        away = torch._foreach_sub(tensors[:count], tensors[2 * count :])
        pull = torch._foreach_mul(away, tensors[count : 2 * count])
        energies = [inner(a, b, runs) for a, b in zip(away, pull, strict=True)]
        return torch.stack(energies).sum(0).div_(2), *pull

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.runs, ctx.pull = inputs[0], output[1:]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        if ctx.runs == 0:
            pull = torch._foreach_mul(ctx.pull, upstream)
        else:
            pull = tuple(p * upstream.view(*upstream.shape, *[1] * (p.dim() - ctx.runs)) for p in ctx.pull)
        return None, *pull, *[None] * (2 * len(pull))

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[Any], runs: int, *tensors: Tensor) -> tuple[Any, Any]:
        """Of several runs at once, which are the first dimension then."""
        given = zip(tensors, in_dims[1:], strict=True)
        leading = [t.expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0) for t, d in given]
        found = Springs.apply(runs + 1, *leading)
        return found, (0,) * len(found)


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
