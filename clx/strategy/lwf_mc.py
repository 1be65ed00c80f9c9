"""Learning without forgetting for one head over all classes."""

from __future__ import annotations

from typing import Any

from clx.buffer.base import Buffer
from clx.loss.distillation import sigmoid_distillation
from clx.model.base import Model
from clx.model.dynamic import needs_task_labels
from clx.model.frozen import Frozen, frozen_copy
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Objective


class LwFMC(Finetune):
    """Binary cross-entropy of every class, old ones held to the last model's probabilities; no exemplars.

    "LwF.MC" of Rebuffi et al. 2017, arXiv:1611.07725, Sec. 4.1: its Algorithm 3 on new data alone; the classifier
    predicts. Has no parameters of its own. Equals icarl at buffer.capacity 0, and in the first experience
    fine-tuning with this loss. Differs from the paper: the loss is summed over classes (Algorithm 3) where the
    authors' code averages, so that their learning rate 2.0 is 2.0 / K here.
    """

    scenarios = frozenset({"class_incremental", "task_incremental"})

    def __init__(self, model: Model, buffer: Buffer | None = None) -> None:
        super().__init__(model, buffer)
        self.teacher: Frozen | None = None
        self.num_old = 0

    def conflict(self, benchmark: Any) -> str | None:
        if needs_task_labels(self.model):
            return (
                "model/head, model: LwF.MC scores all classes at once, whatever the task; set model/head=incremental, "
                "or strategy=lwf for a head of each task"
            )
        return super().conflict(benchmark)

    def adaptation(self, experience: Experience) -> None:
        self.teacher = frozen_copy(self.model) if experience.index else None  # before growth: it knows old classes only
        self.num_old = len(experience.previous_classes)
        super().adaptation(experience)

    def observe(self, batch: Batch) -> Objective:
        logits = self.model(batch.x, batch.t)
        teacher = None if self.teacher is None else self.teacher(batch.x, batch.t)[:, : self.num_old]
        return Objective({"bce": sigmoid_distillation(logits, batch.y, teacher)}, logits)
