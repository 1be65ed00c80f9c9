"""Riemannian walk by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from clx.model.dynamic import model_adaptation
from clx.regularizer.rwalk import RWalk
from clx.strategy.finetune import Finetune
from clx.types import Batch, Clock, Experience, Objective

FIRST, SECOND = Experience(index=0, classes=(0, 1)), Experience(index=1, classes=(2,), previous_classes=(0, 1))
NOTHING = Batch(*torch.zeros(3, 1)), Objective({})
make = partial(RWalk, alpha=0.5, delta_t=2, damping=0.5)


def step(rwalk: RWalk, model: Any, number: int, *moves: tuple[float, float]) -> None:
    """One step that gives the leading weights these (gradient, move); the others stay. All had a gradient."""
    linear = model.classifier.classifier
    linear.weight.grad, linear.bias.grad = torch.zeros_like(linear.weight), torch.zeros_like(linear.bias)
    for row, (gradient, _) in enumerate(moves):
        linear.weight.grad[row, 0] = gradient
    batch = Batch(*torch.zeros(3, 1), clock=Clock(step=number))
    rwalk.after_backward(model, batch)
    with torch.no_grad():
        for row, (_, move) in enumerate(moves):
            linear.weight[row, 0] += move
    rwalk.after_step(model, batch)


def of(rwalk: RWalk, kind: str) -> list[float]:
    return rwalk.held(kind)[1][0].flatten().tolist()


def test_two_experiences_by_hand(make_linear: Any) -> None:
    """alpha = 1/2, Delta t = 2, epsilon = 1/2. Two weights.

    Steps 0, 1: gradients -4, -2 with moves 1, 1, and 2, 2 with moves -1, 0.
    F: 1/2 (16 + 4)/2 = 5 and 1/2 (4 + 4)/2 = 2. Gains 4 + 2 = 6 and 2. Ways 2 and -1:
    s = 6 / (5 x 4 / 2 + 1/2) = 6 / 10.5 = 4/7 and 2 / (2 x 1 / 2 + 1/2) = 4/3.
    Step 2, cut short by the end: gradients 2, 0 with moves 1, 0: F = 5/2 + 1/2 x 4 = 4.5 and 1; the gain -2 is none.
    Importance: F / 4.5 + s / (4/3) = 1 + 3/7 and 2/9 + 1.
    """
    rwalk, model = make(2.0), make_linear([[1.0], [0.0]])
    rwalk.adaptation(model, FIRST)
    assert rwalk.penalty(model, *NOTHING) is None
    step(rwalk, model, 0, (-4.0, 1.0), (2.0, -1.0))
    assert of(rwalk, "score") == [0, 0]
    step(rwalk, model, 1, (-2.0, 1.0), (2.0, 0.0))
    assert of(rwalk, "fisher") == pytest.approx([5, 2])
    assert of(rwalk, "score") == pytest.approx([4 / 7, 4 / 3])
    step(rwalk, model, 2, (2.0, 1.0), (0.0, 0.0))
    rwalk.after_task(model, FIRST, ())
    assert of(rwalk, "fisher") == pytest.approx([4.5, 1])
    assert of(rwalk, "score") == pytest.approx([4 / 7, 4 / 3])
    assert of(rwalk, "importance") == pytest.approx([10 / 7, 11 / 9])
    assert of(rwalk, "anchor") == [4, -1]


def test_the_second_experience_by_hand(make_linear: Any) -> None:
    """From importance 10/7 and anchor 4 the first weight goes to 4.7: 1/2 x 10/7 x .49 = .35, pulling by 1. Of the
    gradient 1 the loop has made 1 + 2 x 1 = 3, weight being 2: F = 1/2 x 4.5 + 1/2 x 1 = 2.75 in one step of the two.
    It moves by -2: gain 1 x 2; s = 4/7 + 2 / (2.75 x 4 / 2 + 1/2) = 4/7 + 1/3, where the way has its start at 4.7,
    which adaptation met. Then it is halved; the second weight's: (4/3) / 2, the largest."""
    rwalk, model = make(2.0), make_linear([[4.0], [-1.0]])
    rwalk.adaptation(model, FIRST)
    for kind, values in (
        ("fisher", [4.5, 1.0]),
        ("score", [4 / 7, 4 / 3]),
        ("importance", [10 / 7, 11 / 9]),
        ("anchor", [4.0, -1.0]),
    ):
        rwalk.held(kind)[1][0].copy_(torch.tensor(values).unsqueeze(1))
    model_adaptation(model, SECOND)
    with torch.no_grad():
        model.classifier.classifier.weight[0, 0] = 4.7
    rwalk.adaptation(model, SECOND)
    value = rwalk.penalty(model, *NOTHING)
    assert value is not None
    assert value.item() == pytest.approx(0.35, abs=1e-6)
    step(rwalk, model, 0, (3.0, -2.0))
    rwalk.after_task(model, SECOND, ())
    assert of(rwalk, "fisher") == pytest.approx([2.75, 0.5, 0], abs=1e-6)
    assert of(rwalk, "score") == pytest.approx([(4 / 7 + 1 / 3) / 2, 2 / 3, 0], abs=1e-6)
    assert of(rwalk, "importance")[1] == pytest.approx(0.5 / 2.75 + 1, abs=1e-6)


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_weight_0_is_finetune(head: str, train_tiny: Any) -> None:
    plain, weightless, weighty = (
        train_tiny(Finetune, head, regularizers=regularizers)
        for regularizers in ({}, {"rwalk": make(0.0)}, {"rwalk": make(1.0)})
    )
    torch.testing.assert_close(weightless, plain, rtol=0, atol=0)
    assert not torch.equal(weighty["body.1.weight"], plain["body.1.weight"])


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"alpha": 1.5}, {"delta_t": 0}, {"damping": 0.0}])
def test_bad_values(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))} "):
        make(1.0, **options)
