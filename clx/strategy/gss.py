"""Gradient-based sample selection."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clx.buffer import gss
from clx.buffer.base import Buffer
from clx.gradient import gradient_cosines
from clx.model.base import Model
from clx.strategy.er import ER
from clx.types import Batch, Objective

FIRST = 0.1  # the score where nothing is stored yet, as in the authors' code


class GSS(ER):
    """Experience replay from a buffer whose samples' gradients point apart.

    Aljundi et al. 2019, arXiv:1903.08671, Algorithm 2 (GSS-Greedy). n: stored samples that a new one is compared with,
    drawn for each batch; score = 1 + the largest cosine between the gradients of their losses over all parameters, in
    eval mode, after the step. The buffer (buffer=gss) keeps or replaces by it. replay_size: samples drawn per step,
    which joins them to the batch as er does. Equals finetune at buffer.capacity 0 or replay_size 0. It does not balance
    classes: those whose gradients resemble stored ones are hardly kept, and it ends below er where every class counts
    (so in Buzzega et al. 2020, arXiv:2004.07211, Table 2, too).
    Differs from the authors' code: every new sample is judged by itself, as in Algorithm 2, where the code admits or
    refuses whole batches first; n single samples are compared with, where the code takes n batches of them; one
    step on both batches, where the code takes a step on each.
    """

    needs_buffer = "gss"

    def __init__(self, model: Model, buffer: Buffer, *, replay_size: int, n: int) -> None:
        super().__init__(model, buffer, replay_size=replay_size)
        if n < 1:
            raise ValueError(f"n {n} < 1; it counts the stored samples that a new one is compared with")
        self.n = n

    def conflict(self, benchmark: Any) -> str | None:
        if self.buffer is not None:
            if not isinstance(self.buffer, gss.GSS):
                return "buffer: GSS selects by scores of its own; set buffer=gss"
            if self.buffer.offer == "experience":
                return "buffer.offer=experience: samples are scored as they come; set first_epoch or every_epoch"
        return super().conflict(benchmark)

    def after_step(self, batch: Batch, objective: Objective) -> None:
        assert isinstance(self.buffer, gss.GSS)
        if self.buffer.capacity and (batch.clock.epoch == 0 or self.buffer.offer == "every_epoch"):
            self.buffer.add(batch, score=self.scores(batch))

    @torch.no_grad()
    def scores(self, batch: Batch) -> Tensor:
        """[B], in [0, 2]: how redundant each sample is beside n stored ones."""
        assert self.buffer is not None
        stored = self.buffer.sample(self.n)
        if not len(stored):
            return torch.full((len(batch),), FIRST, device=batch.x.device)
        training = self.training
        self.eval()
        likeness = gradient_cosines(self.model, (batch.x, batch.y, batch.t), (stored.x, stored.y, stored.t))
        self.train(training)
        return 1 + likeness.amax(1)
