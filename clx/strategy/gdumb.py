"""Greedy sampler and dumb learner."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from clx.buffer.base import Buffer
from clx.data.mix import cutmix
from clx.model.base import Model
from clx.model.dynamic import model_adaptation
from clx.model.frozen import frozen_copy
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Objective, Phase


class GDumb(Finetune):
    """Stores a balanced set of samples, and trains from scratch on that alone when an experience is over.

    Prabhu et al. 2020, "GDumb: A Simple Approach that Questions Our Progress in Continual Learning" (ECCV),
    Algorithms 1 and 2. k -> buffer.capacity; epochs, batch_size, maxlr, minlr, weight_decay, clip, cutmix_alpha,
    cutmix_prob of the training on the memory, under the authors' names; SGD with momentum 0.9, its learning rate by
    cosine with warm restarts after cycles of 1, 2, 4, ... epochs, after one epoch at a tenth.
    trainer.epochs, trainer.batch_size and optimizer do nothing. It is never finetune; where the capacity is that of
    the stream it is joint under that schedule.
    Differs from the paper: from scratch means the same initial weights each time.
    """

    needs_buffer = "greedy_balanced"

    def __init__(
        self,
        model: Model,
        buffer: Buffer,
        *,
        epochs: int,
        batch_size: int,
        maxlr: float,
        minlr: float,
        weight_decay: float,
        clip: float,
        cutmix_alpha: float,
        cutmix_prob: float,
    ) -> None:
        super().__init__(model, buffer)
        if epochs < 1:
            raise ValueError(f"epochs {epochs} < 1; it counts the passes over the memory")
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} < 1")
        if not 0 <= minlr <= maxlr:
            raise ValueError(f"minlr {minlr} is not in [0, maxlr = {maxlr}]")
        if clip <= 0:
            raise ValueError(f"clip {clip} <= 0; it is the largest norm of a step's gradient")
        if cutmix_alpha <= 0 or not 0 <= cutmix_prob <= 1:
            raise ValueError(f"cutmix_alpha {cutmix_alpha}, cutmix_prob {cutmix_prob}: give one > 0 and one in [0, 1]")
        self.epochs, self.batch_size, self.clip = epochs, batch_size, clip
        self.cutmix_alpha, self.cutmix_prob = cutmix_alpha, cutmix_prob
        self.optimizer = partial(torch.optim.SGD, lr=maxlr, momentum=0.9, weight_decay=weight_decay)
        self.scheduler = partial(LambdaLR, lr_lambda=partial(warm_restarts, least=minlr / maxlr if maxlr else 1.0))
        self.blank = frozen_copy(model)  # as it was made; grows with the stream, and is never trained

    def adaptation(self, experience: Experience) -> None:
        super().adaptation(experience)
        model_adaptation(self.blank.model, experience)

    def phases(self, experience: Experience) -> Iterator[Phase]:
        assert self.buffer is not None
        self.buffer.fill(experience, self.embed)
        self.model.load_state_dict(self.blank.model.state_dict())
        yield Phase(
            name="memory",
            data=self.buffer.samples(),
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
        )

    def observe(self, batch: Batch) -> Objective:
        if not self.cutmix_prob or torch.rand(()).item() >= self.cutmix_prob:
            return super().observe(batch)
        x, other, own = cutmix(batch.x, self.cutmix_alpha)
        logits = self.model(x, batch.t)
        mixed = own * cross_entropy(logits, batch.y) + (1 - own) * cross_entropy(logits, batch.y[other])
        return Objective({"ce": mixed}, logits)

    def after_backward(self, batch: Batch) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)

    def after_step(self, batch: Batch, objective: Objective) -> None:
        """The memory is filled before it is trained on."""

    def after_task(self, experience: Experience) -> None:
        """The same."""


def warm_restarts(epoch: int, least: float) -> float:
    """Learning rate of an epoch, in shares of the largest: 0.1, then cosines from 1 down to least, each twice as long.

    Loshchilov & Hutter 2017, arXiv:1608.03983, Eq. 5 with T_0 = 1 and T_mult = 2, after one epoch of warm-up.
    """
    if epoch == 0:
        return 0.1
    length = 1 << (epoch.bit_length() - 1)  # cycles begin at epochs 1, 2, 4, 8, ...
    return least + (1 - least) * (1 + math.cos(math.pi * (epoch - length) / length)) / 2
