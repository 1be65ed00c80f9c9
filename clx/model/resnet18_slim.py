"""The narrow ResNet-18 of the replay literature."""

from __future__ import annotations

from clx.model.resnet import ResNet


class SlimResNet18(ResNet):
    """ResNet-18 with nf, 2 nf, 4 nf and 8 nf channels. Lopez-Paz & Ranzato 2017, arXiv:1706.08840, Sec. 5.

    in_channels: of the images, of any size from 8x8 on (global average pooling). nf: channels of the first
    stage (64 is ResNet-18). With 100 classes and nf 20 it has 1,109,240 parameters.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, nf: int = 20) -> None:
        if nf < 1:
            raise ValueError(f"nf {nf} < 1; it counts the channels of the first stage")
        super().__init__(num_classes, in_channels, (2, 2, 2, 2), (nf, 2 * nf, 4 * nf, 8 * nf))

    def initialize(self) -> None:
        """As torch draws it, like the authors' code."""
