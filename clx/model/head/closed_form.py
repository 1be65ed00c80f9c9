"""Heads that are computed from features and classes, not trained: what they share.

Shapes: B samples, D features, K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from clx.model.dynamic import DynamicModule
from clx.types import Experience

LOWEST = -1e30  # the score of classes without a sample, below any discriminant


class ClosedFormHead(DynamicModule):
    """add() takes samples in any order and number, solve() makes of them what forward() needs.

    per_class: the buffers with a row for each class, which adaptation widens.
    """

    closed_form = True  # only a strategy that computes the head can use it
    per_class: ClassVar[tuple[str, ...]] = ("counts",)
    counts: Tensor

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.register_buffer("counts", torch.zeros(0, dtype=torch.int64))  # [K] samples of each class

    @abstractmethod
    def add(self, features: Tensor, y: Tensor) -> None:
        """Take features [B, D] of classes y [B] into the sums; K is what adaptation made it."""

    def solve(self) -> None:
        """Make of the sums what forward() needs, where that is not the sums themselves."""

    def adaptation(self, experience: Experience) -> None:
        self._widen(1 + max(experience.classes, default=-1))

    def _widen(self, width: int) -> None:
        for name in self.per_class:
            rows = self.get_buffer(name)
            missing = max(0, width - len(rows))
            setattr(self, name, torch.cat((rows, rows.new_zeros(missing, *rows.shape[1:]))))

    def _masked(self, scores: Tensor, value: float = LOWEST) -> Tensor:
        """scores [B, K], with that value for the classes that had no sample."""
        return scores.masked_fill(self.counts == 0, value)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take the number of classes of what is loaded. (torch's hook for modules.)"""
        for name in self.per_class:
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, self.get_buffer(name).new_zeros(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class ClassMeans(ClosedFormHead):
    """A head with the mean of each class, exact whatever the order."""

    per_class: ClassVar[tuple[str, ...]] = ("counts", "class_means")
    class_means: Tensor

    def __init__(self, in_features: int) -> None:
        super().__init__(in_features)
        self.register_buffer("class_means", torch.zeros(0, in_features, dtype=torch.float64))  # [K, D]

    def take(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Take x [B, D] float64 of classes y [B] into counts and means. Returns rows [B, D] and steps [K, D], whose
        outer products add up to what the scatter around the classes' means grows by; step k belongs to class k.

        Chan, Golub & LeVeque 1983: the scatter within the batch, and n m / (n + m) d d' where n samples are joined by
        m whose mean lies d away.
        """
        more = torch.bincount(y, minlength=len(self.counts))
        sums = torch.zeros_like(self.class_means).index_add_(0, y, x)
        means = torch.where((more > 0).unsqueeze(1), sums / more.clamp(min=1).unsqueeze(1), self.class_means)
        away = means - self.class_means
        part = (more / (self.counts + more).clamp(min=1)).to(x).unsqueeze(1)
        steps = away * (self.counts.unsqueeze(1) * part).sqrt()
        self.class_means += part * away
        self.counts += more
        return x - means[y], steps
