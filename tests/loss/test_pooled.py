"""Losses of PODNet."""

from __future__ import annotations

import math

import pytest
import torch

from clx.loss.pooled import margin_nca, pod_spatial, pooled


def test_pooling_by_hand() -> None:
    """Squares 1 0 | 4 4: lines 1, 8; columns 5, 4; length sqrt(1 + 64 + 25 + 16) = sqrt 106."""
    found = pooled(torch.tensor([[[[1.0, 0.0], [-2.0, 2.0]]]]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 8.0, 5.0, 4.0]]) / math.sqrt(106))


def test_distance_by_hand() -> None:
    """A map of one place (1, 0) against (0, 1): lines and columns the same, (1, 0, 1, 0) / sqrt 2 and (0, 1, 0, 1) /
    sqrt 2, sqrt 2 apart. The second stage is the teacher's own: half of it."""
    one, other = torch.tensor([[[[1.0]], [[0.0]]]]), torch.tensor([[[[0.0]], [[1.0]]]])
    assert pod_spatial([one, other], [other, other]).item() == pytest.approx(math.sqrt(2) / 2)


def test_nothing_pulls_where_both_are_the_same() -> None:
    maps = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = pod_spatial([maps], [maps.detach()])
    (gradient,) = torch.autograd.grad(loss, maps)
    assert loss.item() == 0.0
    assert gradient.abs().max().item() == 0.0


def test_nca_by_hand() -> None:
    """Scale 2, margin 0.5. Similarities 0.5 | 0.5, 0: ln(e + 1) - 2 (0.5 - 0.5) = 1.313262. And 1 | -1, -1:
    ln(2 exp(-2)) - 1 = -2.306853, which counts as 0. Mean 0.656631."""
    similarities, y = torch.tensor([[0.5, 0.5, 0.0], [-1.0, -1.0, 1.0]]), torch.tensor([0, 2])
    assert margin_nca(similarities, y, torch.tensor(2.0), 0.5).item() == pytest.approx(0.656631, abs=1e-6)


def test_one_class_has_nothing_to_be_apart_from() -> None:
    assert margin_nca(torch.ones(2, 1), torch.zeros(2).long(), torch.tensor(1.0), 0.6).item() == 0.0
