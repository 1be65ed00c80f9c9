"""MobileNet v1 as a row of 28 units that can be split anywhere."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from clx.model.base import Model

# (channels, stride) of each depthwise-pointwise pair after the first convolution of 32.
PAIRS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]


def _unit(before: int, after: int, kernel: int, stride: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(after), relu=nn.ReLU(inplace=True)))


class MobileNetV1(Model):
    """Howard et al. 2017, arXiv:1704.04861, Table 1, as 28 units: 0 the first convolution, then 13 pairs of a
    depthwise (odd) and a pointwise (even) convolution, 27 the pooling.

    in_channels: of the images, of any size from 32x32 on. latent_layer: the last unit of lat_features, which
    features() runs first; end_features is the rest, so stored latents go on from there.
    """

    def __init__(self, num_classes: int = 50, in_channels: int = 3, latent_layer: int = 20) -> None:
        super().__init__()
        units = [_unit(in_channels, 32, 3, 2)]
        before = 32
        for width, stride in PAIRS:
            units += [_unit(before, before, 3, stride, groups=before), _unit(before, width, 1, 1)]
            before = width
        units.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        if not 0 <= latent_layer < len(units) - 1:
            raise ValueError(
                f"latent_layer {latent_layer} is outside 0..{len(units) - 2}, the units before the pooling"
            )
        self.lat_features = nn.Sequential(*units[: latent_layer + 1])
        # Units keep their numbers in their names, wherever the cut is.
        rest = {str(number): unit for number, unit in enumerate(units) if number > latent_layer}
        self.end_features = nn.Sequential(OrderedDict(rest))
        self.feature_dim = before
        self.classifier: nn.Module = nn.Linear(before, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return self.end_features(self.lat_features(x))
