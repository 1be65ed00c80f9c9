"""Residual nets of any depth for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from clx.model.base import Model


class Block(nn.Module):
    """Two 3x3 convolutions and the identity; divides the side by the stride.

    shortcut: B = a 1x1 convolution where the shape changes, A = every second pixel and zeros for new channels.
    """

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
        """Option A: no parameters."""
        if self.stride == 1 and not self.more:
            return x
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


class ResNet(Model):
    """A 3x3 convolution, stages of blocks that halve the side from the second on, global average pooling.

    He et al. 2016, arXiv:1512.03385, Sec. 4.2, for images of any size from 2^(stages - 1) pixels on. blocks[i]: of
    stage i, each of two convolutions; widths[i]: its channels. shortcut: B = 1x1 convolutions where the shape changes,
    A = zero padding without parameters (channels may then only grow). last_relu: false leaves the features signed.
    The default is ResNet-18 for CIFAR: 11,173,962 parameters with 10 classes.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        blocks: Sequence[int] = (2, 2, 2, 2),
        widths: Sequence[int] = (64, 128, 256, 512),
        shortcut: Literal["A", "B"] = "B",
        last_relu: bool = True,
    ) -> None:
        super().__init__()
        if not blocks or min(blocks) < 1:
            raise ValueError(f"blocks {list(blocks)}: there must be a stage, and a block in each")
        if len(widths) != len(blocks) or min(widths) < 1:
            raise ValueError(f"widths {list(widths)}: give the channels of each of the {len(blocks)} stages")
        if shortcut == "A" and list(widths) != sorted(widths):
            raise ValueError(f"widths {list(widths)}: zeros can only add channels; set shortcut=B")
        stem = [nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0])]
        layers: list[nn.Module] = [*stem, nn.ReLU(inplace=True)]
        before = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for number in range(count):
                final = stage == len(blocks) - 1 and number == count - 1
                stride = 2 if stage and number == 0 else 1
                layers.append(Block(before, width, stride, shortcut, last_relu or not final))
                before = width
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.initialize()
        self.feature_dim = before
        self.classifier: nn.Module = nn.Linear(before, num_classes)

    def initialize(self) -> None:
        """He et al. 2015, arXiv:1502.01852: normal convolutions with the variance of their outputs kept."""
        for module in self.body.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)
