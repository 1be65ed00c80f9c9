"""Memory aware synapses."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from clx.gradient import absolute_gradients
from clx.model.base import Model
from clx.regularizer.quadratic import QuadraticPenalty
from clx.types import Batch, Experience


def squared_length(logits: Tensor, _: Tensor) -> Tensor:
    """||z||^2 of one sample, logits [1, K]; no label is asked for."""
    return logits.square().sum()


class MAS(QuadraticPenalty):
    """weight / 2 * sum_i Omega_i (theta_i - theta*_i)^2. Aljundi et al. 2018, arXiv:1711.09601, Eq. 2-4.

    lambda -> weight / 2. Omega_i is the mean over the experience's samples of |d ||z||^2 / d theta_i|, z being the
    logits, in eval mode, of the sample's own head where tasks have one; it adds up over experiences, and theta* is
    the latest. No label is used. Equals finetune at weight 0. Differs from the paper: none known; the mean is over
    the training samples, which the paper has beside a mean over test samples.
    """

    def after_task(self, model: Model, experience: Experience, batches: Iterable[Batch]) -> None:
        total = dict(zip(self.names, map(torch.zeros_like, self.held()[0]), strict=True))
        count = 0
        for batch in batches:
            count += len(batch)
            for task, part in batch.by_task():
                found = absolute_gradients(model, part.x, part.y, squared_length, task_label=task)
                for name, magnitudes in found.items():
                    total[name] += magnitudes
        with torch.no_grad():
            torch._foreach_add_(self.held("importance")[1], list(total.values()), alpha=1 / max(count, 1))
        self.set_anchor()
