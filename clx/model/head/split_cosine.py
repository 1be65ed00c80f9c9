"""The cosine head as LUCIR looks at it: all old classes, and the new ones."""

from __future__ import annotations

from torch import Tensor, nn

from clx.model.head.cosine import CosineClassifier


class SplitCosine(CosineClassifier):
    """CosineClassifier that tells the embeddings of this experience's classes from all older ones.

    LUCIR's own code merges the old ones into one matrix. Here they stay the blocks that they came in, so that what an
    optimizer or a regularizer keeps of a parameter stays with it; the scores are the same.
    """

    @property
    def old(self) -> list[Tensor]:
        """The embeddings [k, D] of the classes before the last that came, block by block; empty at first."""
        return list(self.blocks.values())[:-1]

    @property
    def new(self) -> nn.Parameter:
        """The embeddings [k, D] of the classes that came last."""
        return list(self.blocks.values())[-1]
