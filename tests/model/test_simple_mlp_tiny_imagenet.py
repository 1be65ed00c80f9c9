"""The perceptron for Tiny ImageNet: its size, inputs of any shape."""

from __future__ import annotations

import torch

from clx.model.simple_mlp_tiny_imagenet import SimpleMLP_TinyImageNet


def test_parameters() -> None:
    """(12,288 + 1) 1,024 in the layer, (1,024 + 1) 200 in the classifier."""
    expected = (3 * 64 * 64 + 1) * 1024 + 1025 * 200
    assert sum(p.numel() for p in SimpleMLP_TinyImageNet().parameters()) == expected


def test_forward_of_one_image() -> None:
    model = SimpleMLP_TinyImageNet(7, input_size=64)
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 7)
    assert model.features(torch.zeros(1, 1, 8, 8)).shape == (1, 1024)
