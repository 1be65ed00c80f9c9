"""Accuracy on every test set, plain and task-aware, from one forward pass."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from clx.data.batches import batches
from clx.strategy.finetune import Finetune
from clx.types import Samples


class Evaluator:
    """The test sets as one set of samples, so that evaluation is large batches whatever the number of sets.

    classes[j]: the columns of test set j; None = those that occur in it.
    """

    def __init__(self, stream: Sequence[Samples], classes: Sequence[tuple[int, ...]] | None = None) -> None:
        sets = list(stream)
        self.classes = [tuple(s.y.unique().tolist()) for s in sets] if classes is None else list(classes)
        self.tasks = [set(s.t.unique().tolist()) for s in sets]
        # [sets, m] columns of each, in order; the last one again where a set has fewer.
        width = max((len(columns) for columns in self.classes), default=0)
        ordered = [sorted(columns) or [0] for columns in self.classes]
        self.own = torch.tensor([own + own[-1:] * (width - len(own)) for own in ordered], dtype=torch.int64)
        self.sizes = torch.tensor([len(s) for s in sets])
        self.owner = torch.repeat_interleave(torch.arange(len(sets)), self.sizes)  # [N] test set of each sample
        if all(s.data is sets[0].data for s in sets):
            rows = [torch.arange(len(s.data)) if s.rows is None else s.rows for s in sets]
            data, where = sets[0].data, torch.cat(rows)
        else:
            data, where = torch.cat([s.raw for s in sets]), torch.arange(len(self.owner))
        self.samples = Samples(data, torch.cat([s.y for s in sets]), torch.cat([s.t for s in sets]), where)

    @torch.no_grad()
    def __call__(
        self,
        strategy: Finetune,
        batch_size: int,
        *,
        known_classes: Collection[int],
        known_tasks: Collection[int] | None = None,
    ) -> tuple[list[float], list[float]]:
        """(plain, task-aware) accuracy of each test set in [0, 1]; NaN where one of its classes never came.

        known_classes: the columns met so far. known_tasks: where the model answers by task label, the labels met so
        far; NaN for the others, None = any label will do. Task-aware: predictions restricted to the test set's
        own classes.
        """
        num_columns = 1 + max(known_classes, default=-1)
        trained = [known_tasks is None or tasks <= set(known_tasks) for tasks in self.tasks]
        known = set(known_classes)
        columns_there = [known.issuperset(columns) for columns in self.classes]
        measurable = torch.tensor([a and b for a, b in zip(trained, columns_there, strict=True)])
        keep = measurable[self.owner].nonzero().squeeze(1)
        samples, owner, device = self.samples[keep], self.owner[keep], strategy.device
        own = self.own.to(device)
        hits = torch.zeros(2, len(self.classes), dtype=torch.int64, device=device)
        was_training = strategy.training
        strategy.eval()
        parts = batches(samples, batch_size, strategy.eval_transform, device) if len(samples) else ()
        for batch in parts:
            assert batch.index is not None
            group = owner[batch.index.to("cpu")].to(device)
            scores = strategy.inference(batch.x, batch.t)[:, :num_columns]
            hits.index_add_(1, group, _correct(scores, batch.y, own[group]).long())
        strategy.train(was_training)
        plain, aware = (hits.cpu().double() / self.sizes).masked_fill(~measurable, math.nan).tolist()
        return plain, aware


def _correct(scores: Tensor, y: Tensor, own: Tensor) -> Tensor:
    """Whether class y [B] has the largest of scores [B, K], over all and over own [B, m] columns alone: [2, B]."""
    best = scores.gather(1, own).argmax(1, keepdim=True)
    return torch.stack((scores.argmax(1) == y, own.gather(1, best).squeeze(1) == y))
