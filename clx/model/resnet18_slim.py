"""The narrow ResNet-18 of the replay literature."""

from __future__ import annotations

from torch import Tensor, nn

from clx.model.base import Model
from clx.model.resnet32 import Block


class SlimResNet18(Model):
    """ResNet-18 with nf, 2 nf, 4 nf and 8 nf channels. Lopez-Paz & Ranzato 2017, arXiv:1706.08840, Sec. 5.

    in_channels: of the images, of any size from 8x8 on (global average pooling). nf: channels of the first
    stage (64 is ResNet-18). With 100 classes and nf 20 it has 1,109,240 parameters.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, nf: int = 20) -> None:
        super().__init__()
        if nf < 1:
            raise ValueError(f"nf {nf} < 1; it counts the channels of the first stage")
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, nf, 3, padding=1, bias=False),
            nn.BatchNorm2d(nf),
            nn.ReLU(inplace=True),
        ]
        before = nf
        for stage, width in enumerate((nf, 2 * nf, 4 * nf, 8 * nf)):
            for stride in (2 if stage else 1, 1):
                layers.append(Block(before, width, stride, "B", last_relu=True))
                before = width
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.feature_dim = 8 * nf
        self.classifier: nn.Module = nn.Linear(8 * nf, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)
