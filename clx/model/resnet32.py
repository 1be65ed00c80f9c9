"""The residual nets for 32x32 images: three stages of 16, 32 and 64 channels."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from clx.model.base import Model


class Block(nn.Module):
    """Two 3x3 convolutions and the identity; halves the side where the stride is 2."""

    def __init__(self, before: int, width: int, stride: int, shortcut: str, last_relu: bool) -> None:
        super().__init__()
        self.stride, self.last_relu = stride, last_relu
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.more = width - before  # channels that the identity lacks
        self.projection: nn.Module | None = None
        if shortcut == "B" and (stride != 1 or self.more):
            self.projection = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, before, H, W] -> [B, width, H / stride, W / stride]."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out = out + (self.shortcut(x) if self.projection is None else self.projection(x))
        return functional.relu(out) if self.last_relu else out

    def shortcut(self, x: Tensor) -> Tensor:
        """Option A: every second pixel, zeros for the new channels; no parameters."""
        if self.stride == 1 and not self.more:
            return x
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


class ResNet32(Model):
    """ResNet for CIFAR, depth 6 * blocks + 2. He et al. 2016, arXiv:1512.03385, Sec. 4.2.

    in_channels: of the images, of any size from 4x4 on (global average pooling). blocks: of each stage (5 is
    ResNet-32). shortcut: B = 1x1 convolutions where the shape changes, A = zero padding without parameters.
    last_relu: false leaves the features signed, as iCaRL's and LUCIR's nets do. ResNet32() has 466,906
    parameters; with shortcut A and 100 classes 470,004.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        blocks: int = 5,
        shortcut: Literal["A", "B"] = "B",
        last_relu: bool = True,
    ) -> None:
        super().__init__()
        if blocks < 1:
            raise ValueError(f"blocks {blocks} < 1; each of the three stages needs one")
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
        ]
        before = 16
        for stage, width in enumerate((16, 32, 64)):
            for number in range(blocks):
                final = stage == 2 and number == blocks - 1
                stride = 2 if stage and number == 0 else 1
                layers.append(Block(before, width, stride, shortcut, last_relu or not final))
                before = width
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.feature_dim = 64
        self.classifier: nn.Module = nn.Linear(64, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)
