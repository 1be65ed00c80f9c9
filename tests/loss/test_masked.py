"""Cross-entropy over some of the classes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from clx.loss.masked import masked_cross_entropy

LN2 = math.log(2)


def test_by_hand() -> None:
    """exp of the logits is 1, 2, 3. Without the last class 1 has 2/3: ln 1.5, and the gradient (1/3, -1/3, 0)."""
    logits = torch.tensor([[0.0, LN2, math.log(3)]], requires_grad=True)
    loss = masked_cross_entropy(logits, torch.tensor([1]), torch.tensor([True, True, False]))
    assert loss.item() == pytest.approx(math.log(1.5))
    loss.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[1 / 3, -1 / 3, 0.0]]))


def test_a_set_for_each_sample() -> None:
    """The first among classes 0 and 1, ln 1.5; the second has its own alone, 0: their mean."""
    logits = torch.tensor([[0.0, LN2, 9.0], [0.0, LN2, 9.0]])
    allowed = torch.tensor([[True, True, False], [False, True, False]])
    assert masked_cross_entropy(logits, torch.tensor([1, 1]), allowed).item() == pytest.approx(math.log(1.5) / 2)


def test_all_allowed_is_cross_entropy() -> None:
    logits, y = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1])
    assert torch.equal(masked_cross_entropy(logits, y, torch.ones(3, dtype=torch.bool)), cross_entropy(logits, y))
