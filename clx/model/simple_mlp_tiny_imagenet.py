"""The multi-layer perceptron for Tiny ImageNet."""

from __future__ import annotations

from torch import Tensor, nn

from clx.model.base import Model


class SimpleMLP_TinyImageNet(Model):  # noqa: N801 - the name that people know it by
    """Linear to 1,024 units, ReLU, dropout 0.5, a linear classifier. input_size: values of one input (C * H * W)."""

    def __init__(self, num_classes: int = 200, input_size: int = 3 * 64 * 64) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(input_size, 1024), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.feature_dim = 1024
        self.classifier: nn.Module = nn.Linear(1024, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)
