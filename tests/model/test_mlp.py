"""Multi-layer perceptrons of any depth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from clx.model.mlp import MLP


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 784 * 400 + 400 + 400 * 400 + 400 + 400 * 10 + 10),
        ({"hidden_sizes": [], "num_classes": 3, "input_size": 4}, 4 * 3 + 3),
        ({"hidden_sizes": [5, 2], "num_classes": 3, "input_size": 4}, 25 + 12 + 9),
        ({"hidden_sizes": [5], "num_classes": 3, "input_size": 4, "batch_norm": True}, 25 + 2 * 5 + 18),
    ],
)
def test_parameters(options: dict[str, Any], count: int) -> None:
    assert sum(p.numel() for p in MLP(**options).parameters()) == count


@pytest.mark.parametrize(("name", "function"), [("relu", torch.relu), ("tanh", torch.tanh), ("gelu", nn.GELU())])
def test_layers_by_hand(name: Any, function: Any) -> None:
    """Twice the activation of an affine map, of an image that is flattened; then the classifier."""
    net = MLP(2, 4, (3, 5), activation=name)
    first, second = (layer for layer in net.body if isinstance(layer, nn.Linear))
    x = torch.randn(6, 1, 2, 2)
    hidden = function(x.flatten(1) @ first.weight.T + first.bias)
    features = function(hidden @ second.weight.T + second.bias)
    torch.testing.assert_close(net.features(x), features)
    torch.testing.assert_close(net(x), net.classifier(features))
    assert net.feature_dim == 5


def test_without_hidden_layers_the_features_are_the_inputs() -> None:
    net, x = MLP(2, 4, ()), torch.randn(3, 1, 2, 2)
    assert net.feature_dim == 4
    assert torch.equal(net.features(x), x.flatten(1))


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"hidden_sizes": [3, 0]}, "hidden_sizes"),
        ({"activation": "swish"}, "activation"),
        ({"drop_rate": 2.0}, "drop_rate"),
    ],
)
def test_bad_values(options: dict[str, Any], start: str) -> None:
    with pytest.raises(ValueError, match=f"^{start} "):
        MLP(**options)
