"""Losses that keep the scores of classes apart, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from clx.loss.margin import less_forget, margin_ranking


def test_less_forget_is_one_minus_the_cosine() -> None:
    """(3, 4) and (6, 8): 0; (1, 0) and (0, 2): 1; (1, 1) and (-1, -1): 2. Mean 1, whatever the lengths."""
    features = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]])
    teacher = torch.tensor([[6.0, 8.0], [0.0, 2.0], [-1.0, -1.0]])
    assert less_forget(features, teacher).item() == pytest.approx(1.0)
    assert less_forget(features[:1], teacher[:1]).item() == pytest.approx(0.0, abs=1e-6)


COSINES = torch.tensor([
    [0.9, 0.1, 0.2, 0.6, -0.5],  # of class 0: own .9; hardest new ones .6 and .2
    [0.3, 0.4, 0.7, 0.8, 0.0],  # of class 1: own .4; .8 and .7
    [0.0, 0.0, 0.1, 0.2, 0.9],  # of class 4, a new one
])  # fmt: skip


def test_margin_ranking_over_the_hardest_new_classes() -> None:
    """Two old classes, margin .5. Row 0: max(0, .5 - .9 + .6) = .2 and max(0, .5 - .9 + .2) = 0; row 1: .9 and .8;
    the sample of a new class has no part. (.2 + 0 + .9 + .8) / 4 = .475; with the hardest alone (.2 + .9) / 2."""
    y = torch.tensor([0, 1, 4])
    assert margin_ranking(COSINES, y, 2, 2, 0.5).item() == pytest.approx(0.475)
    assert margin_ranking(COSINES, y, 2, 1, 0.5).item() == pytest.approx(0.55)


def test_a_batch_without_old_samples() -> None:
    cosines = COSINES.clone().requires_grad_()
    loss = margin_ranking(cosines, torch.tensor([2, 3, 4]), 2, 2, 0.5)
    loss.backward()
    assert loss.item() == 0
    assert not cosines.grad.any()
