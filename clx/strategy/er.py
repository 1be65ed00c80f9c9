"""Experience replay."""

from __future__ import annotations

from torch.nn.functional import cross_entropy

from clx.buffer.base import Buffer
from clx.model.base import Model
from clx.strategy.finetune import Finetune
from clx.types import Batch, Objective


class ER(Finetune):
    """Each step joins the incoming batch with a uniform draw from the buffer: mean cross-entropy of both.

    Chaudhry et al. 2019, arXiv:1902.10486, Algorithm 1. replay_size: samples drawn per step (min(that, stored)).
    Equals finetune at buffer.capacity 0 or replay_size 0.
    Differs from the paper: none known; samples are offered to the buffer after the step, in their first epoch.
    """

    needs_buffer = "reservoir"

    def __init__(self, model: Model, buffer: Buffer, *, replay_size: int) -> None:
        super().__init__(model, buffer)
        if replay_size < 0:
            raise ValueError(f"replay_size {replay_size} < 0; it counts the samples drawn per step")
        self.replay_size = replay_size

    def observe(self, batch: Batch) -> Objective:
        assert self.buffer is not None
        joint = batch + self.buffer.sample(self.replay_size)
        logits = self.model(joint.x, joint.t)
        return Objective({"ce": cross_entropy(logits, joint.y)}, logits[: len(batch)])
