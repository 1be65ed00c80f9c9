"""Elastic weight consolidation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clx.model.base import Model
from clx.regularizer.ewc_online import EWCOnline
from clx.runtime import seed as seeding
from clx.types import Batch, Experience, Objective


class EWC(EWCOnline):
    """EWC with a term for each past task: weight / 2 * sum_k sum_i F_ki (theta_i - theta*_ki)^2.

    Kirkpatrick et al. 2017, arXiv:1612.00796, Eq. 3. lambda -> weight. A sum of quadratics is one quadratic: with
    S = sum_k F_k, around the mean of the theta*_k weighted by F_k, plus a constant. So the terms are exact, the
    constant included, and take the memory of one. F_k: see ewc_online (labels = sampled, exact, empirical), or
    labels = batched: the squared gradient of the mean over batch_size samples, true classes. Some codebases have
    that; it is not the Fisher: most of it averages out, and weight has to grow about as batch_size does.
    Equals finetune at weight 0, and ewc_online (decay 1) until the third experience. Differs from the paper: none
    known; it does not say which estimate of the Fisher it takes.
    """

    constant: Tensor

    def __init__(
        self,
        weight: float,
        *,
        labels: Literal["sampled", "exact", "empirical", "batched"],
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(weight, decay=1.0, labels="empirical" if labels == "batched" else labels, seed=seed)
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} < 1; it counts the samples of a gradient with labels=batched")
        self.batched, self.batch_size = labels == "batched", batch_size
        self.register_buffer("constant", torch.zeros(()))  # what all terms have in common where they balance

    def penalty(self, model: Model, batch: Batch, objective: Objective) -> Tensor | None:
        energy = super().penalty(model, batch, objective)
        return None if energy is None else energy + self.constant

    def after_task(self, model: Model, experience: Experience, batches: Iterable[Batch]) -> None:
        if self.batched:
            fisher = self.squared_means(model, batches)
        else:
            draw = seeding.generator("fisher", self.seed, experience.index)
            fisher = [values for _, values in self.fisher(model, batches, draw)]
        with torch.no_grad():
            for parts in zip(*self.held("importance", "anchor"), fisher, strict=True):
                self.constant.add_(merge(*parts))

    def squared_means(self, model: Model, batches: Iterable[Batch]) -> list[Tensor]:
        """For every trained parameter the mean over samples of the squared mean gradient of the batch that it is in."""
        parameters = self.held()[0]
        total, count = [torch.zeros_like(p, requires_grad=False) for p in parameters], 0
        for whole in batches:
            for start in range(0, len(whole), self.batch_size):
                batch = whole[slice(start, start + self.batch_size)]
                loss = cross_entropy(model(batch.x, batch.t), batch.y)
                found = torch.autograd.grad(loss, parameters, materialize_grads=True, allow_unused=True)
                torch._foreach_addcmul_(total, found, found, value=len(batch))
                count += len(batch)
        return list(torch._foreach_div(total, count))


def merge(parameter: Tensor, importance: Tensor, anchor: Tensor, added: Tensor) -> Tensor:
    """Add 1/2 sum added (theta - parameter)^2 to the quadratic that importance and anchor hold, in place.

    All of one shape. Returns the constant that is left over, a scalar: with total = importance + added it is
    1/2 sum importance added / total (parameter - anchor)^2.
    """
    total = importance + added
    share = torch.where(total > 0, added / total, 0.0)
    away = parameter - anchor
    left = (importance * share * away.square()).sum() / 2
    anchor.addcmul_(share, away)
    importance.copy_(total)
    return left
