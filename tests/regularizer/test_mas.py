"""Memory aware synapses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.model.base import Model
from clx.model.dynamic import model_adaptation
from clx.regularizer.mas import MAS
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Objective

NOTHING = Batch(*torch.zeros(3, 1)), Objective({})
FIRST, SECOND = Experience(index=0, classes=(0, 1)), Experience(index=1, classes=(2,), previous_classes=(0, 1))


def of(*x: float) -> Batch:
    zeros = torch.zeros(len(x), dtype=torch.int64)
    return Batch(torch.tensor(x).unsqueeze(1), zeros, zeros)


def test_two_experiences_by_hand(make_linear: Any) -> None:
    """z = (a, b) x, so d||z||^2 / da = 2 a x^2 and d/d(bias a) = 2 a x, with a = 1, b = -2.

    Inputs 1, -3: |2|, |18| -> mean 10 for a; |-4|, |-36| -> 20 for b; biases |2|, |-6| -> 4 and |-4|, |12| -> 8
    (without the absolute values: -2 and 4). Moved by 1 and 2 then: 1/2 (10 x 1 + 20 x 4) = 45.
    Second experience, a = 2, b = 0, new c = 1, input 1: adds 4, 0, 2; 4, 0, 2 to the biases.
    """
    mas, model = MAS(2.0), make_linear([[1.0], [-2.0]])
    mas.adaptation(model, FIRST)
    assert mas.penalty(model, *NOTHING) is None
    mas.after_task(model, FIRST, iter([of(1.0, -3.0)]))
    weight, bias = mas.held("importance")[1]
    assert (weight.flatten().tolist(), bias.tolist()) == ([10.0, 20.0], [4.0, 8.0])
    model_adaptation(model, SECOND)
    mas.adaptation(model, SECOND)
    model.set_rows([[2.0], [0.0], [1.0]])
    value = mas.penalty(model, *NOTHING)
    assert value is not None
    assert value.item() == pytest.approx(45.0)
    mas.after_task(model, SECOND, iter([of(1.0)]))
    weight, bias = mas.held("importance")[1]
    assert (weight.flatten().tolist(), bias.tolist()) == ([14.0, 20.0, 2.0], [8.0, 8.0, 2.0])
    assert mas.penalty(model, *NOTHING).item() == 0  # type: ignore[union-attr]


class Convolution(Model):
    """Not all of its parameters are those of linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), nn.Dropout(0.5), nn.Flatten())
        self.feature_dim, self.classifier = 27, nn.Linear(27, 4)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)


def two_heads(make_model: Any) -> Model:
    model = make_model("multi_head")
    for task, classes in enumerate([(0, 1), (2, 3)]):
        model_adaptation(model, Experience(index=task, classes=classes, classes_by_task={task: classes}))
    return model


@pytest.mark.parametrize("kind", ["two_heads", "convolution"])
def test_one_sample_at_a_time(kind: str, make_model: Any) -> None:
    """The mean of |gradient| over 5 samples in batches of 3 and 2, a backward pass for each; of its own head alone."""
    torch.manual_seed(0)
    model = (two_heads(make_model) if kind == "two_heads" else Convolution()).eval()
    x, t = torch.randn(5, 1, 4, 4), torch.tensor([0, 1, 0, 1, 0])
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i in range(5):
        scores = model(x[i : i + 1], t[i : i + 1])
        if kind == "two_heads":
            scores = scores[:, [0, 1] if t[i] == 0 else [2, 3]]
        model.zero_grad()
        scores.square().sum().backward()
        for name, p in model.named_parameters():
            expected[name] += 0 if p.grad is None else p.grad.abs() / 5
    model.zero_grad()
    mas = MAS(1.0)
    mas.adaptation(model, FIRST)
    mas.after_task(model, FIRST, iter([Batch(x[rows], t[rows], t[rows]) for rows in (slice(0, 3), slice(3, 5))]))
    found = dict(zip(mas.names, mas.held("importance")[1], strict=True))
    assert all(value.max() > 0 for value in expected.values())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_weight_0_is_finetune(head: str, train_tiny: Any) -> None:
    plain, weightless, weighty = (
        train_tiny(Finetune, head, regularizers=regularizers)
        for regularizers in ({}, {"mas": MAS(0.0)}, {"mas": MAS(0.1)})
    )
    torch.testing.assert_close(weightless, plain, rtol=0, atol=0)
    assert not torch.equal(weighty["body.1.weight"], plain["body.1.weight"])


def test_bad_weight() -> None:
    with pytest.raises(ValueError, match=r"^weight -1.0 < 0"):
        MAS(-1.0)
