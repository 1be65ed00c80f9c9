"""The residual nets for 32x32 images: three stages of 16, 32 and 64 channels."""

from __future__ import annotations

from typing import Literal

from clx.model.resnet import ResNet


class ResNet32(ResNet):
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
        if blocks < 1:
            raise ValueError(f"blocks {blocks} < 1; each of the three stages needs one")
        super().__init__(num_classes, in_channels, (blocks,) * 3, (16, 32, 64), shortcut, last_relu)
