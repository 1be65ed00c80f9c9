"""The cosine head in two blocks: all old classes, and the new ones."""

from __future__ import annotations

import torch
from torch import nn

from clx.model.head.cosine import CosineClassifier
from clx.types import Experience


class SplitCosine(CosineClassifier):
    """CosineClassifier whose earlier blocks are merged when new classes come, as in LUCIR's own code.

    blocks: "0", the embeddings of every class before this experience, and the new ones after them. The scores are
    those of CosineClassifier.
    """

    def adaptation(self, experience: Experience) -> None:
        known = set(self.columns.tolist())
        if len(self.blocks) > 1 and any(column not in known for column in experience.classes):
            blocks = list(self.blocks.values())
            merged = nn.Parameter(torch.cat(blocks).detach(), requires_grad=blocks[-1].requires_grad)
            self.blocks = nn.ParameterDict({"0": merged})
        super().adaptation(experience)
