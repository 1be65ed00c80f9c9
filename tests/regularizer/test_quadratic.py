"""A spring on every parameter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clx.regularizer.quadratic import QuadraticPenalty, grown
from clx.types import Batch, Experience, Objective

NOTHING = Batch(*torch.zeros(3, 1)), Objective({})
FIRST, SECOND = Experience(index=0, classes=(0, 1)), Experience(index=1, classes=(2,), previous_classes=(0, 1))


def fill(springs: QuadraticPenalty, kind: str, *values: list[Any]) -> None:
    for tensor, value in zip(springs.held(kind)[1], values, strict=True):
        tensor.copy_(torch.tensor(value))


def test_value_by_hand(make_linear: Any) -> None:
    """Weights 1 and 2, biases 0. 1/2 (2 (1 - 0)^2 + 3 (2 - 4)^2 + 10 (0 - 1)^2 + 0 (0 - 9)^2) = (2 + 12 + 10) / 2 = 12.

    Its gradient is importance (parameter - anchor): 2, 3 x -2, 10 x -1, 0.
    """
    springs, model = QuadraticPenalty(7.0), make_linear([[1.0], [2.0]])
    springs.adaptation(model, Experience(index=1, classes=(0, 1)))
    fill(springs, "importance", [[2.0], [3.0]], [10.0, 0.0])
    fill(springs, "anchor", [[0.0], [4.0]], [1.0, 9.0])
    value = springs.penalty(model, *NOTHING)
    assert value is not None
    assert value.item() == pytest.approx(12.0, rel=1e-6)
    value.backward()
    linear = model.classifier.classifier
    assert (linear.weight.grad.tolist(), linear.bias.grad.tolist()) == ([[2.0], [-6.0]], [-10.0, 0.0])


def test_nothing_to_hold_on_to_in_the_first_experience(make_linear: Any) -> None:
    springs, model = QuadraticPenalty(1.0), make_linear([[1.0], [2.0]])
    springs.adaptation(model, FIRST)
    assert springs.penalty(model, *NOTHING) is None


def test_new_rows_are_free(make_linear: Any) -> None:
    """Old rows keep their springs: 1/2 (2 (1 - 0)^2 + 3 (2 - 0)^2) = 7; the new row may be anything."""
    springs, model = QuadraticPenalty(1.0), make_linear([[1.0], [2.0]])
    springs.adaptation(model, FIRST)
    fill(springs, "importance", [[2.0], [3.0]], [5.0, 5.0])
    model.classifier.adaptation(SECOND)
    model.set_rows([[1.0], [2.0], [100.0]])
    springs.adaptation(model, SECOND)
    weight, bias = springs.held("importance")[1]
    assert (weight.tolist(), bias.tolist()) == ([[2.0], [3.0], [0.0]], [5.0, 5.0, 0.0])
    assert springs.penalty(model, *NOTHING).item() == pytest.approx(7.0)


def test_the_anchor_is_where_the_parameters_are(make_linear: Any) -> None:
    springs, model = QuadraticPenalty(1.0), make_linear([[1.0], [2.0]])
    springs.adaptation(model, SECOND)
    fill(springs, "importance", [[1.0], [1.0]], [1.0, 1.0])
    springs.set_anchor()
    assert springs.penalty(model, *NOTHING).item() == 0
    model.set_rows([[1.0], [5.0]])
    assert springs.penalty(model, *NOTHING).item() == pytest.approx((5 - 2) ** 2 / 2)


def test_parameters_that_do_not_train_have_no_spring(make_linear: Any) -> None:
    springs, model = QuadraticPenalty(1.0), make_linear([[1.0], [2.0]])
    model.classifier.classifier.bias.requires_grad_(False)
    springs.adaptation(model, SECOND)
    assert [parameter.shape for parameter in springs.held()[0]] == [(2, 1)]


def test_a_checkpoint_has_it(make_linear: Any) -> None:
    """A fresh one, adapted alike, takes the state in."""
    model, regularizers = make_linear([[1.0], [2.0]]), [QuadraticPenalty(1.0), QuadraticPenalty(1.0)]
    for springs in regularizers:
        springs.adaptation(model, SECOND)
    fill(regularizers[0], "importance", [[2.0], [3.0]], [5.0, 0.0])
    regularizers[1].load_state_dict(regularizers[0].state_dict())
    values = [springs.penalty(model, *NOTHING).item() for springs in regularizers]
    assert values == [pytest.approx((2 * 1 + 3 * 4) / 2)] * 2


def test_growing_in_any_dimension() -> None:
    new = grown(torch.tensor([[1.0, 2.0]]), torch.ones(2, 3, requires_grad=True))
    assert new.tolist() == [[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]
    assert not new.requires_grad
    assert grown(None, torch.ones(2)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 2, 1)])
def test_what_shrinks_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="it may only grow"):
        grown(torch.zeros(2, 2), torch.zeros(shape))
