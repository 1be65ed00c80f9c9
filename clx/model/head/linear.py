"""One linear head of fixed size."""

from __future__ import annotations

from torch import Tensor, nn

from clx.model.dynamic import DynamicModule
from clx.types import Experience


class LinearClassifier(DynamicModule):
    """Linear in_features -> num_classes from the start: classes still to come take part in every softmax.

    num_classes: the build offers those of the whole benchmark. bias: whether there is one. adaptation raises
    ValueError where a class has no unit.
    """

    def __init__(self, in_features: int, num_classes: int = 10, bias: bool = True) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes {num_classes} < 1")
        self.num_classes = num_classes
        self.classifier = nn.Linear(in_features, num_classes, bias)

    def adaptation(self, experience: Experience) -> None:
        needed = 1 + max(experience.classes, default=-1)
        if needed > self.num_classes:
            raise ValueError(f"num_classes {self.num_classes} < {needed} classes seen; raise it")

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in_features] -> logits [B, num_classes]."""
        return self.classifier(x)
