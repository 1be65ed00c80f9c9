"""What the methods share that learn prompts for a frozen vision transformer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clx.buffer.base import Buffer
from clx.loss.masked import masked_cross_entropy
from clx.model.base import Model
from clx.model.vit import Prompt, ViT
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Objective


class Prompting(Finetune):
    """Cross-entropy over the experience's own classes, of features with prompts; prompts and head are trained.

    A method puts its prompts into the model when it is made, and writes `penalty`. A sample's prompts depend on that
    sample alone, in evaluation too.
    """

    classes: Tensor

    def __init__(self, model: Model, buffer: Buffer | None = None) -> None:
        super().__init__(model, buffer)
        self.register_buffer("classes", torch.zeros(0, dtype=torch.int64))  # of the experience

    def conflict(self, benchmark: Any) -> str | None:
        if not isinstance(self.model, ViT):
            return "model: prompts go into a vision transformer; set model=vit"
        return super().conflict(benchmark)

    def adaptation(self, experience: Experience) -> None:
        super().adaptation(experience)
        self.classes = self.classes.new_tensor(experience.classes)

    def penalty(self, prompt: Prompt) -> dict[str, Tensor]:
        """The terms beside the cross-entropy, by name."""
        raise NotImplementedError

    def observe(self, batch: Batch) -> Objective:
        assert isinstance(self.model, ViT)
        assert self.model.prompts is not None
        prompt = self.model.prompts(self.model.query(batch.x))
        logits = self.model.classify(self.model.prompted(batch.x, prompt), batch.t)
        own = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device).index_fill(0, self.classes, True)
        return Objective({"ce": masked_cross_entropy(logits, batch.y, own)} | self.penalty(prompt), logits)
