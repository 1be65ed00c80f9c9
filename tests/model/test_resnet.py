"""Residual nets of any depth."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clx.model.resnet import Block, ResNet
from clx.model.resnet18_slim import SlimResNet18
from clx.model.resnet32 import ResNet32


def count(net: ResNet) -> int:
    return sum(p.numel() for p in net.parameters())


def test_resnet18_for_cifar() -> None:
    assert count(ResNet()) == 11_173_962


@pytest.mark.parametrize(
    ("options", "special"),
    [
        ({"blocks": (5, 5, 5), "widths": (16, 32, 64)}, ResNet32),
        ({"blocks": (2, 2, 2, 2), "widths": (20, 40, 80, 160)}, SlimResNet18),
    ],
)
def test_the_special_nets_are_these(options: dict[str, Any], special: Any) -> None:
    """The same names and shapes."""
    ours, theirs = ResNet(**options).state_dict(), special().state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("depth", [(1,), (1, 2), (1, 1, 1, 1, 1)])
def test_any_depth(depth: tuple[int, ...], shortcut: Any) -> None:
    """Each stage but the first halves the side: 16 -> 16, 8, ..., 1 pixels before the pooling."""
    widths = tuple(4 + 2 * stage for stage in range(len(depth)))
    net = ResNet(3, 2, depth, widths, shortcut=shortcut, last_relu=False)
    assert sum(isinstance(module, Block) for module in net.body) == sum(depth)
    x = torch.randn(2, 2, 16, 16)
    before_pooling = net.body[:-2](x)
    assert before_pooling.shape == (2, widths[-1], *[16 >> (len(depth) - 1)] * 2)
    assert net.features(x).shape == (2, net.feature_dim) == (2, widths[-1])
    assert before_pooling.min() < 0
    assert ResNet(3, 2, depth, widths, shortcut=shortcut).body[:-2](x).min() >= 0
    assert (sum("projection" in name for name, _ in net.named_parameters()) > 0) == (shortcut == "B" and len(depth) > 1)


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"blocks": []}, "blocks"),
        ({"blocks": [1, 0], "widths": [4, 4]}, "blocks"),
        ({"blocks": [1, 1]}, "widths"),
        ({"blocks": [1], "widths": [0]}, "widths"),
        ({"blocks": [1, 1], "widths": [8, 4], "shortcut": "A"}, "widths"),
    ],
)
def test_bad_values(options: dict[str, Any], start: str) -> None:
    with pytest.raises(ValueError, match=rf"^{start} \["):
        ResNet(**options)
