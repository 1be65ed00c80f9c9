"""What EWC and its relatives share: a spring on every parameter, as stiff as the parameter is important."""

from __future__ import annotations

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
        self.active = False

    def adaptation(self, model: Model, experience: Experience) -> None:
        self.active = experience.index > 0
        self.names = {name: name.replace(".", "/") for name, p in model.named_parameters() if p.requires_grad}
        for name, parameter in model.named_parameters():
            if name in self.names:
                for kind in ("importance", "anchor"):
                    key = f"{kind}:{self.names[name]}"
                    self.register_buffer(key, grown(getattr(self, key, None), parameter))

    def state(self, kind: str, model: Model) -> list[tuple[Tensor, Tensor]]:
        """(parameter, importance or anchor) for every parameter that is held."""
        return [(p, getattr(self, f"{kind}:{self.names[n]}")) for n, p in model.named_parameters() if n in self.names]

    def penalty(self, model: Model, batch: Batch, objective: Objective) -> Tensor | None:
        if not self.active:
            return None
        pairs = zip(self.state("importance", model), self.state("anchor", model), strict=True)
        springs = [(f * (p - a).square()).sum() for (p, f), (_, a) in pairs]
        return torch.stack(springs).sum() / 2

    @torch.no_grad()
    def set_anchor(self, model: Model) -> None:
        """Hold the parameters where they are now."""
        for parameter, anchor in self.state("anchor", model):
            anchor.copy_(parameter)


def grown(old: Tensor | None, parameter: Tensor) -> Tensor:
    """Zeros in the parameter's shape with old in the first rows. Raises ValueError where old does not fit in."""
    fresh = torch.zeros_like(parameter, requires_grad=False)
    if old is not None:
        if old.dim() != fresh.dim() or any(o > n for o, n in zip(old.shape, fresh.shape, strict=True)):
            raise ValueError(f"a parameter of shape {tuple(old.shape)} became {tuple(fresh.shape)}; it may only grow")
        fresh[tuple(slice(size) for size in old.shape)] = old
    return fresh
