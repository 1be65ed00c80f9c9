"""Teachers: copies of a model that nothing can move."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from clx.model.base import Model
from clx.types import Batch

KEPT = 2**28  # bytes of answers that a teacher keeps, of each kind


class Repeats:
    """Answers of one teacher to samples that every epoch brings again as the same inputs: it is asked once for each.

    parts(): all of the samples, in order. batch: those of the step. Everything is asked when the first batch is, in
    that order, so that a run that goes on in a later epoch finds the same bits.
    """

    def __init__(self, parts: Callable[[], Iterable[Batch]], count: int) -> None:
        self.parts, self.count = parts, count
        self.batch: Batch | None = None
        self.kept: dict[str, Tensor | None] = {}  # [N, ...]; None = too large

    def answer(self, name: str, ask: Callable[[Batch], Tensor]) -> Tensor:
        """What ask(batch) gives for the batch of the step, [B, ...]."""
        assert self.batch is not None
        if name not in self.kept:
            self.kept[name] = self._all(ask)
        whole = self.kept[name]
        if whole is None or self.batch.index is None:
            return ask(self.batch)
        return whole.index_select(0, self.batch.index.to(whole.device))

    def _all(self, ask: Callable[[Batch], Tensor]) -> Tensor | None:
        found: list[Tensor] = []
        for part in self.parts():
            found.append(ask(part))
            if found[0][:1].nbytes * self.count > KEPT:
                return None
        return torch.cat(found)


class Frozen(nn.Module):
    """A model that stays as it is: always in eval mode (BatchNorm statistics included), never a gradient.

    It can be a child of what is trained: train() does not reach it.
    """

    model: Model
    repeats: Repeats | None = None  # set by the loop, while it trains on inputs that come again

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Tensor, task_labels: Tensor | int | None = None) -> Tensor:
        repeats = self.repeats
        if repeats is None or repeats.batch is None or x is not repeats.batch.x:
            return self.model(x, task_labels)
        if task_labels is repeats.batch.t:
            return repeats.answer("logits", lambda batch: self.model(batch.x, batch.t))
        if isinstance(task_labels, int | None):
            return repeats.answer(f"logits of {task_labels}", lambda batch: self.model(batch.x, task_labels))
        return self.model(x, task_labels)

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Of the frozen model."""
        if self.repeats is not None and self.repeats.batch is not None and x is self.repeats.batch.x:
            return self.repeats.answer("features", lambda batch: self.model.features(batch.x))
        return self.model.features(x)

    @torch.no_grad()
    def classify(self, features: Tensor, task_labels: Tensor | int | None = None) -> Tensor:
        """Of the frozen model."""
        return self.model.classify(features, task_labels)


def frozen_copy(model: Model) -> Frozen:
    """A teacher: the model as it is now."""
    return Frozen(copy.deepcopy(model))
