"""Online elastic weight consolidation."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from clx.gradient import squared_gradients
from clx.model.base import Model
from clx.regularizer.quadratic import QuadraticPenalty
from clx.runtime import seed as seeding
from clx.types import Batch, Experience


def negative_log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    """-log p(target) of one sample: logits [1, K], target a scalar."""
    return -logits.log_softmax(1).gather(1, target.view(1, 1)).sum()


def weighted_log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    """sqrt(p) log p of one class, p held fixed: its squared gradient is that class's part of the exact Fisher."""
    log_p = logits.log_softmax(1).gather(1, target.view(1, 1)).sum()
    return (log_p.detach() / 2).exp() * log_p


class EWCOnline(QuadraticPenalty):
    """Online EWC: weight / 2 * sum_i F_i (theta_i - theta*_i)^2, F <- decay * F + F_t, theta* the latest.

    Schwarz et al. 2018, arXiv:1805.06370, Sec. 4; Huszar 2018, arXiv:1712.03847.
    lambda -> weight, gamma -> decay (1 = sum). F_t is the mean over the experience's samples of squared
    per-sample gradients of log p(y|x), in eval mode, y being labels = sampled (one draw from the model's own
    p, default), exact (expectation over all classes, K times the cost) or empirical (the true class).
    Equals finetune at weight 0. Differs from the paper: none known; the first two terms are those of its
    Eq. 7-9 with the Fisher of Kirkpatrick et al. 2017, arXiv:1612.00796.
    """

    def __init__(
        self, weight: float, *, decay: float, labels: Literal["sampled", "exact", "empirical"], seed: int
    ) -> None:
        super().__init__(weight)
        if not 0 <= decay <= 1:
            raise ValueError(f"decay {decay} is outside [0, 1]")
        self.decay, self.labels, self.seed = decay, labels, seed

    def after_task(self, model: Model, experience: Experience, batches: Iterable[Batch]) -> None:
        fisher = self.fisher(model, batches, seeding.generator("fisher", self.seed, experience.index))
        for importance, (_, update) in zip(self.held("importance")[1], fisher, strict=True):
            importance.mul_(self.decay).add_(update)
        self.set_anchor()

    def fisher(self, model: Model, batches: Iterable[Batch], draw: torch.Generator) -> list[tuple[str, Tensor]]:
        """(name, mean of squared per-sample gradients) for every trained parameter."""
        total = dict(zip(self.names, map(torch.zeros_like, self.held()[0]), strict=True))
        loss = weighted_log_likelihood if self.labels == "exact" else negative_log_likelihood
        count = 0
        for batch in batches:
            count += len(batch)
            for task, part in batch.by_task():
                targets = part.y if self.labels == "empirical" else partial(self.classes, draw)
                for name, squares in squared_gradients(model, part.x, targets, loss, task_label=task).items():
                    total[name] += squares
        return [(name, values / count) for name, values in total.items()]

    def classes(self, draw: torch.Generator, logits: Tensor) -> list[Tensor]:
        """One class of each sample, [B], drawn from what the logits [B, K] say; with labels = exact, each class."""
        if self.labels == "exact":
            return [torch.full((len(logits),), k, device=logits.device) for k in range(logits.shape[1])]
        return [torch.multinomial(logits.softmax(1).cpu(), 1, generator=draw).squeeze(1).to(logits.device)]
