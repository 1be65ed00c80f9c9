"""Losses on stored logits."""

from __future__ import annotations

import math

import pytest
import torch

from clx.loss.logits import dark_knowledge, transplant, violation

NAN = math.nan


def test_what_is_stored_is_compared() -> None:
    """Differences 1, -2 | 3 (class 1 was not there) and a third class that no row has: (1 + 4 + 9) / 3."""
    logits = torch.tensor([[1.0, 2.0, 9.0], [3.0, 7.0, 9.0]], requires_grad=True)
    loss = dark_knowledge(logits, torch.tensor([[0.0, 4.0], [0.0, NAN]]))
    assert loss.item() == pytest.approx(14 / 3)
    loss.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[2.0, -4.0, 0.0], [6.0, 0.0, 0.0]]) / 3)


def test_nothing_stored_is_0() -> None:
    assert dark_knowledge(torch.ones(2, 2), torch.full((2, 2), NAN)).item() == 0
    assert dark_knowledge(torch.ones(0, 2), torch.ones(0, 2)).item() == 0


def test_transplant_by_hand() -> None:
    """Columns 1 and 2 are renewed. Own score 2 (class 0) above 1 and -1: taken as they are. Own 2 below 8 and -4: times
    .5 * 2 / 8. The rest stays, and so do the arguments."""
    stored, current = torch.tensor([[2.0, 7.0, 7.0, 5.0]] * 2), torch.tensor([[9.0, 1, -1, 9], [9.0, 8, -4, 9]])
    found = transplant(stored, current, torch.tensor([0, 0]), slice(1, 3), 0.5)
    assert found.tolist() == [[2, 1, -1, 5], [2, 1, -0.5, 5]]
    assert stored[0].tolist() == [2, 7, 7, 5]
    assert torch.equal(transplant(stored, current, torch.tensor([0, 0]), slice(4, 4), 0.5), stored)


def test_violation_by_hand() -> None:
    """Margin 1: 3 + 1 - 2 = 2; 0 + 1 - 5 < 0 does not count; 1 + 1 - 1 = 1: mean of two."""
    wrong, right = torch.tensor([[3.0, 0.0], [0.0, -9.0], [1.0, 1.0]]), torch.tensor([[2.0], [5.0], [1.0]])
    assert violation(wrong, right, 1.0).item() == pytest.approx(1.5)
    assert violation(wrong - 100, right, 1.0).item() == 0
