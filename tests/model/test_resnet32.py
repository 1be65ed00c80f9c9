"""ResNet-32: its published sizes, both shortcuts, signed features."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clx.model.resnet import Block
from clx.model.resnet32 import ResNet32


@pytest.mark.parametrize(
    ("keys", "parameters"),
    [
        ({}, 466_906),
        ({"num_classes": 100, "shortcut": "A", "last_relu": False}, 470_004),
        # a stage of one block less: two 3x3 convolutions of c channels with their norms, 18 c^2 + 4 c each stage
        ({"blocks": 4}, 466_906 - sum(18 * c * c + 4 * c for c in (16, 32, 64))),
    ],
)
def test_parameters(keys: dict[str, Any], parameters: int) -> None:
    assert sum(p.numel() for p in ResNet32(**keys).parameters()) == parameters


@pytest.mark.parametrize("size", [8, 28, 32])
def test_forward_of_one_image_of_any_size(size: int) -> None:
    model = ResNet32(7, in_channels=1, blocks=1).eval()
    assert model(torch.zeros(1, 1, size, size)).shape == (1, 7)
    assert model.features(torch.zeros(1, 1, size, size)).shape == (1, model.feature_dim)


@pytest.mark.parametrize(("last_relu", "signed"), [(True, False), (False, True)])
def test_features_are_signed_without_the_last_relu(last_relu: bool, signed: bool) -> None:
    torch.manual_seed(0)
    features = ResNet32(blocks=1, last_relu=last_relu)(torch.randn(64, 3, 8, 8))
    model = ResNet32(blocks=1, last_relu=last_relu).eval()
    assert bool((model.features(torch.randn(64, 3, 8, 8)) < 0).any()) is signed
    assert features.shape == (64, 10)


def test_shortcut_a_takes_every_second_pixel_and_pads_with_zero_channels() -> None:
    x = torch.arange(32.0).view(1, 2, 4, 4)
    out = Block(2, 3, 2, "A", last_relu=True).shortcut(x)
    assert out.tolist() == [[[[0, 2], [8, 10]], [[16, 18], [24, 26]], [[0, 0], [0, 0]]]]
    assert Block(2, 2, 1, "A", last_relu=True).shortcut(x) is x


def test_bad_value() -> None:
    with pytest.raises(ValueError, match="blocks 0"):
        ResNet32(blocks=0)
