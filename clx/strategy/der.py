"""Dark experience replay."""

from __future__ import annotations

from typing import Any

from clx.buffer.base import Buffer, StreamingBuffer
from clx.loss.logits import dark_knowledge
from clx.model.base import Model
from clx.strategy.finetune import Finetune
from clx.types import Batch, Objective


class DER(Finetune):
    """Stored samples keep the logits that the model gave them when they came.

    Buzzega et al. 2020, arXiv:2004.07211, Eq. 6 and Algorithm 1. alpha -> weight of the squared difference, its mean
    over samples and logits as in the authors' code; replay_size: samples drawn per step. The logits are those of the
    training step, augmentation and all. Equals finetune at alpha 0 or buffer.capacity 0.
    Differs from the paper: under a head that grows (incremental, multi_head) a sample is not held to logits of classes
    that came after it, so that alone nothing keeps these from winning everywhere; model/head=linear, which the YAML
    brings, has them all from the start as the paper's net has.
    """

    needs_buffer = "reservoir"

    def __init__(self, model: Model, buffer: Buffer, *, alpha: float, replay_size: int) -> None:
        super().__init__(model, buffer)
        if alpha < 0:
            raise ValueError(f"alpha {alpha} < 0; 0 switches it off")
        if replay_size < 0:
            raise ValueError(f"replay_size {replay_size} < 0; it counts the samples drawn per step")
        self.alpha, self.replay_size = alpha, replay_size

    def conflict(self, benchmark: Any) -> str | None:
        if self.buffer is not None:
            if not isinstance(self.buffer, StreamingBuffer):
                return "buffer: logits are stored as samples come, and this one is filled later; set buffer=reservoir"
            if self.buffer.offer == "experience":
                return "buffer.offer=experience: logits are stored as samples come; set first_epoch or every_epoch"
        return super().conflict(benchmark)

    def observe(self, batch: Batch) -> Objective:
        objective = super().observe(batch)
        memory = self.draw(self.alpha)
        if memory is None:
            return objective
        gap = dark_knowledge(self.model(memory.x, memory.t), memory.fields["logits"])
        return Objective(objective.terms | {"dark": self.alpha * gap}, objective.logits)

    def draw(self, weight: float) -> Batch | None:
        """Samples for a term of that weight; None where it is 0 or nothing is stored, and nothing is drawn then."""
        assert self.buffer is not None
        memory = self.buffer.sample(self.replay_size) if weight and self.replay_size else None
        return memory if memory is not None and len(memory) else None

    def after_step(self, batch: Batch, objective: Objective) -> None:
        assert self.buffer is not None
        assert objective.logits is not None
        self.buffer.add(batch, logits=objective.logits.detach())
