"""The multi-layer perceptron."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clx.model.simple_mlp import SimpleMLP


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 784 * 512 + 512 + 512 * 10 + 10),  # 407,050
        ({"num_classes": 3, "input_size": 4, "hidden_size": 5, "hidden_layers": 2}, 25 + 30 + 18),
    ],
)
def test_number_of_parameters(options: dict[str, Any], expected: int) -> None:
    """Each layer has inputs x outputs weights and a bias for each output."""
    assert sum(p.numel() for p in SimpleMLP(**options).parameters()) == expected


def test_default_size() -> None:
    assert sum(p.numel() for p in SimpleMLP().parameters()) == 407_050


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 28, 28), (3, 784), (2, 4, 14, 14)])
def test_images_of_any_shape_and_a_batch_of_one(shape: tuple[int, ...], training: bool) -> None:
    model = SimpleMLP().train(training)
    assert model(torch.zeros(shape)).shape == (shape[0], 10)
    assert model.features(torch.zeros(shape)).shape == (shape[0], model.feature_dim) == (shape[0], 512)


def test_layers_one_after_the_other() -> None:
    """x = (1, -2). Layer 1: relu(1 + 2, 1 - 2, -2) = (3, 0, 0); layer 2: relu(3 + 1, -3 + 1, 0 + 1) = (4, 0, 1).
    Logits of the rows (1, 1, 1) and (1, 1, -1) with biases 0 and 3: 4 + 1 = 5 and 4 - 1 + 3 = 6."""
    model = SimpleMLP(num_classes=2, input_size=2, hidden_size=3, hidden_layers=2, drop_rate=0.0)
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    weights = [
        ([[1.0, -1.0], [1.0, 1.0], [0.0, 1.0]], [0.0, 0.0, 0.0]),
        ([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [1.0, 1.0, 1.0]),
        ([[1.0, 1.0, 1.0], [1.0, 1.0, -1.0]], [0.0, 3.0]),
    ]
    with torch.no_grad():
        for layer, (weight, bias) in zip(linear, weights, strict=True):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    x = torch.tensor([[1.0, -2.0]])
    assert model.features(x).tolist() == [[4.0, 0.0, 1.0]]
    assert model(x).tolist() == [[5.0, 6.0]]


def test_dropout_in_training_alone() -> None:
    """With 512 hidden units two draws of half of them never agree; survivors are doubled."""
    model, x = SimpleMLP(drop_rate=0.5), torch.ones(1, 784)
    kept = model.features(x)
    assert not torch.equal(kept, model.features(x))
    whole = model.eval().features(x)
    assert torch.equal(whole, model.features(x))
    torch.testing.assert_close(kept[kept > 0], 2 * whole[kept > 0])


@pytest.mark.parametrize(
    ("key", "value"), [("hidden_size", 0), ("hidden_layers", 0), ("drop_rate", -0.1), ("drop_rate", 1.1)]
)
def test_bad_values(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{key} {value} "):
        SimpleMLP(**{key: value})
