"""Synaptic intelligence by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clx.regularizer.si import SI
from clx.types import Batch, Experience, Objective

FIRST, SECOND = Experience(index=0, classes=(0, 1)), Experience(index=1, classes=(2,), previous_classes=(0, 1))
BATCH = Batch(torch.zeros(1, 1), torch.zeros(1).long(), torch.zeros(1).long())


def step(si: SI, model: Any, gradient: float, move: float) -> None:
    """One step that gives the first weight that gradient and moves it so far; the others stay."""
    weight = model.classifier.classifier.weight
    weight.grad = torch.zeros_like(weight)
    weight.grad[0, 0] = gradient
    si.penalty(model, BATCH, Objective({}, None))  # the loop asks for it in each step
    si.after_backward(model, BATCH)
    with torch.no_grad():
        weight[0, 0] += move
    si.after_step(model, BATCH)


def importance(si: SI, model: Any) -> float:
    return si.held("importance")[1][0][0, 0].item()


def penalty(si: SI, model: Any) -> float:
    value = si.penalty(model, BATCH, Objective({}, None))
    return 0.0 if value is None else value.item()


def make(**options: Any) -> SI:
    return SI(**{"weight": 2.0, "damping": 0.5, "clip": None, "head": True} | options)


def test_two_experiences_by_hand(make_linear: Any) -> None:
    """Gradients -4, -2 on ways .5, 1: path 4 * .5 + 2 * 1 = 4; Omega = 4 / (1.5^2 + .5) = 16/11.
    Then the weight is .5 away: penalty 1/2 Omega .25, times weight 2 in the loop. Its own gradient there is
    2 Omega .5 = Omega; with that in .grad, -3 + Omega, the path of the next way .5 counts 3 * .5 alone."""
    si, model = make(), make_linear([[1.0], [0.0]])
    si.adaptation(model, FIRST)
    assert penalty(si, model) == 0
    step(si, model, -4.0, 0.5)
    step(si, model, -2.0, 1.0)
    si.after_task(model, FIRST, ())
    omega = 16 / 11
    assert importance(si, model) == pytest.approx(omega)
    model.classifier.adaptation(SECOND)
    si.adaptation(model, SECOND)
    assert penalty(si, model) == pytest.approx(0)
    with torch.no_grad():
        model.classifier.classifier.weight[0, 0] += 0.5
    assert penalty(si, model) == pytest.approx(omega * 0.25 / 2)
    step(si, model, -3.0 + omega, 0.5)
    si.after_task(model, SECOND, ())
    assert importance(si, model) == pytest.approx(omega + 1.5 / (1.0 + 0.5))


def test_a_way_uphill_counts_as_nothing(make_linear: Any) -> None:
    si, model = make(), make_linear([[1.0], [0.0]])
    si.adaptation(model, FIRST)
    step(si, model, 4.0, 0.5)
    si.after_task(model, FIRST, ())
    assert importance(si, model) == 0


def test_importances_are_clipped(make_linear: Any) -> None:
    si, model = make(clip=0.001), make_linear([[1.0], [0.0]])
    si.adaptation(model, FIRST)
    step(si, model, -4.0, 0.5)
    si.after_task(model, FIRST, ())
    assert importance(si, model) == pytest.approx(0.001)


def test_the_way_of_a_new_row_begins_where_it_was_made(make_linear: Any) -> None:
    """It moves by .5 with gradient -1: Omega = .5 / (.25 + .5), whatever its first value."""
    si, model = make(), make_linear([[1.0], [0.0]])
    si.adaptation(model, FIRST)
    si.after_task(model, FIRST, ())
    model.classifier.adaptation(SECOND)
    si.adaptation(model, SECOND)
    weight = model.classifier.classifier.weight
    weight.grad = torch.zeros_like(weight)
    weight.grad[2, 0] = -1.0
    si.after_backward(model, BATCH)
    with torch.no_grad():
        weight[2, 0] += 0.5
    si.after_step(model, BATCH)
    si.after_task(model, SECOND, ())
    assert si.held("importance")[1][0].flatten().tolist() == pytest.approx([0, 0, 2 / 3])


def test_the_head_can_be_left_out(make_model: Any) -> None:
    si, model = make(head=False), make_model()
    si.adaptation(model, FIRST)
    assert si.names
    assert not any(name.startswith("classifier.") for name in si.names)


@pytest.mark.parametrize("options", [{"damping": 0.0}, {"clip": 0.0}, {"weight": -1.0}])
def test_bad_values(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))} "):
        make(**options)
