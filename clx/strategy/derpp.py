"""Dark experience replay with labels."""

from __future__ import annotations

from torch.nn.functional import cross_entropy

from clx.buffer.base import Buffer
from clx.model.base import Model
from clx.strategy.der import DER
from clx.types import Batch, Objective


class DERPP(DER):
    """DER++: a second, independent draw from the buffer is trained on its labels.

    Buzzega et al. 2020, arXiv:2004.07211, Eq. 7 and Algorithm 2. alpha -> weight of the logits' squared difference,
    beta -> weight of the cross-entropy; replay_size: samples of each of the two draws. Equals der at beta 0, and
    finetune at alpha and beta 0 or buffer.capacity 0. Differs from the paper: as der does.
    """

    def __init__(self, model: Model, buffer: Buffer, *, alpha: float, beta: float, replay_size: int) -> None:
        super().__init__(model, buffer, alpha=alpha, replay_size=replay_size)
        if beta < 0:
            raise ValueError(f"beta {beta} < 0; 0 switches it off")
        self.beta = beta

    def observe(self, batch: Batch) -> Objective:
        objective = super().observe(batch)
        memory = self.draw(self.beta)
        if memory is None:
            return objective
        replay = cross_entropy(self.model(memory.x, memory.t), memory.y)
        return Objective(objective.terms | {"replay": self.beta * replay}, objective.logits)
