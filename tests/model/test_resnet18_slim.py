"""The narrow ResNet-18: its published size, any image size."""

from __future__ import annotations

import pytest
import torch

from clx.model.resnet18_slim import SlimResNet18


def test_parameters() -> None:
    assert sum(p.numel() for p in SlimResNet18(num_classes=100, nf=20).parameters()) == 1_109_240


@pytest.mark.parametrize("size", [8, 28, 32])
def test_forward_of_one_image_of_any_size(size: int) -> None:
    model = SlimResNet18(7, in_channels=1, nf=4).eval()
    assert model(torch.zeros(1, 1, size, size)).shape == (1, 7)
    assert model.features(torch.zeros(2, 1, size, size)).shape == (2, 32)


def test_widths_double_with_the_stages() -> None:
    convolutions = [m for m in SlimResNet18(nf=3).modules() if isinstance(m, torch.nn.Conv2d)]
    assert sorted({c.out_channels for c in convolutions}) == [3, 6, 12, 24]
    assert not any(c.bias is not None for c in convolutions)


def test_bad_value() -> None:
    with pytest.raises(ValueError, match="nf 0"):
        SlimResNet18(nf=0)
