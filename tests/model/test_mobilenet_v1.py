"""MobileNet v1: its 28 units, and the split at any of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clx.model.mobilenet_v1 import MobileNetV1

# (channels out, stride, depthwise) of units 0 to 26, as the paper's Table 1 has them
UNITS = [
    (32, 2, False), (32, 1, True), (64, 1, False), (64, 2, True), (128, 1, False), (128, 1, True), (128, 1, False),
    (128, 2, True), (256, 1, False), (256, 1, True), (256, 1, False), (256, 2, True), (512, 1, False),
    *[(512, 1, True), (512, 1, False)] * 5, (512, 2, True), (1024, 1, False), (1024, 1, True), (1024, 1, False),
]  # fmt: skip


def units(model: MobileNetV1) -> list[nn.Module]:
    return [*model.lat_features, *model.end_features]


def test_units() -> None:
    model = MobileNetV1()
    assert len(units(model)) == 28
    convolutions = [m for unit in units(model)[:-1] for m in unit.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.stride[0], c.groups == c.in_channels) for c in convolutions] == UNITS


def test_parameters() -> None:
    """The net of 1,000 classes: 4,231,976, its classifier with a bias."""
    assert sum(p.numel() for p in MobileNetV1(1000).parameters()) == 4_231_976


@pytest.mark.parametrize("latent_layer", [0, 19, 20, 26])
def test_the_split_changes_no_number(latent_layer: int) -> None:
    torch.manual_seed(0)
    whole = MobileNetV1(5, latent_layer=13).eval()
    split = MobileNetV1(5, latent_layer=latent_layer).eval()
    for target, source in zip(units(split), units(whole), strict=True):
        target.load_state_dict(source.state_dict())
    split.classifier.load_state_dict(whole.classifier.state_dict())
    x = torch.randn(1, 3, 32, 32)
    assert len(split.lat_features) == latent_layer + 1
    assert torch.equal(split(x), whole(x))


@pytest.mark.parametrize("latent_layer", [-1, 27])
def test_no_such_unit(latent_layer: int) -> None:
    with pytest.raises(ValueError, match=r"latent_layer -?\d+ is outside 0..26"):
        MobileNetV1(latent_layer=latent_layer)
