"""A spring of the same stiffness on every parameter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clx.model.dynamic import model_adaptation
from clx.regularizer.l2 import L2
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Objective

NOTHING = Batch(*torch.zeros(3, 1)), Objective({})
FIRST, SECOND = Experience(index=0, classes=(0, 1)), Experience(index=1, classes=(2,), previous_classes=(0, 1))


def test_by_hand(make_linear: Any) -> None:
    """Held at weights 1, 2 and biases 0; then 4, 0, biases 0, the new class's at 50:
    1/2 [(4 - 1)^2 + (0 - 2)^2] = (9 + 4) / 2 = 6.5, pulling by 3, -2, 0. After the second experience all three are held
    where they are then: one back at 48 is 1/2 x 2^2 = 2."""
    l2, model = L2(3.0), make_linear([[1.0], [2.0]])
    l2.adaptation(model, FIRST)
    assert l2.penalty(model, *NOTHING) is None
    l2.after_task(model, FIRST, ())
    model_adaptation(model, SECOND)
    l2.adaptation(model, SECOND)
    model.set_rows([[4.0], [0.0], [50.0]])
    model.classifier.classifier.bias.data[2] = 9.0
    value = l2.penalty(model, *NOTHING)
    assert value is not None
    assert value.item() == pytest.approx(6.5)
    value.backward()
    assert model.classifier.classifier.weight.grad.tolist() == [[3.0], [-2.0], [0.0]]
    l2.after_task(model, SECOND, ())
    assert l2.penalty(model, *NOTHING).item() == 0  # type: ignore[union-attr]
    with torch.no_grad():
        model.classifier.classifier.weight[2] = 48.0
    assert l2.penalty(model, *NOTHING).item() == pytest.approx(2.0)  # type: ignore[union-attr]


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_weight_0_is_finetune(head: str, train_tiny: Any) -> None:
    plain, weightless, weighty = (
        train_tiny(Finetune, head, regularizers=regularizers) for regularizers in ({}, {"l2": L2(0.0)}, {"l2": L2(0.1)})
    )
    torch.testing.assert_close(weightless, plain, rtol=0, atol=0)
    assert not torch.equal(weighty["body.1.weight"], plain["body.1.weight"])


def test_bad_weight() -> None:
    with pytest.raises(ValueError, match=r"^weight -1.0 < 0"):
        L2(-1.0)
