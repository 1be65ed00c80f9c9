"""Losses with prototypes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clx.loss.prototype import pseudo_prototypical_proxy

LN2 = math.log(2)
AXES = torch.eye(2)


def test_by_hand() -> None:
    """At T = 1/ln 2 the same direction weighs 2, a right angle 1. Each sample lies on its prototype. Attraction: 2 of
    2 + 1 each, -ln 2/3. Repulsion: the other's sample and prototype weigh 1 each against 2 of its own: 1 - 1/3, so -ln
    2/3 too. Four terms over two samples: 2 ln 1.5."""
    loss = pseudo_prototypical_proxy(AXES, torch.tensor([0, 1]), AXES, torch.tensor([True, True]), 1 / LN2)
    assert loss.item() == pytest.approx(2 * math.log(1.5), abs=1e-6)


def test_a_third_prototype_and_one_that_is_not_known() -> None:
    """A prototype of class 2 at (-1, 0) weighs 1/2 to (1, 0) and 1 to (0, 1), in every sum but its own: 2 of 3.5 and 2
    of 4; 1 - 1 / (1 + 2 + 1) for the pair seen from (0, 1), 1 - 1 / (1 + 2 + 1/2) from (1, 0). Class 3 is not there."""
    prototypes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    known = torch.tensor([True, True, True, False])
    loss = pseudo_prototypical_proxy(AXES, torch.tensor([0, 1]), prototypes, known, 1 / LN2)
    expected = -(math.log(2 / 3.5) + math.log(2 / 4) + math.log(1 - 1 / 4) + math.log(1 - 1 / 3.5)) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_one_class_has_nothing_to_be_told_from() -> None:
    features = AXES.clone().requires_grad_()
    loss = pseudo_prototypical_proxy(features, torch.tensor([0, 0]), AXES, torch.tensor([True, False]), 0.1)
    loss.backward()
    assert (loss.item(), features.grad.abs().sum().item()) == (0, 0)


def one_by_one(f: Tensor, y: list[int], p: Tensor, T: float) -> Tensor:
    """The paper's sums, term by term; what attracts is not moved."""

    def share(s: Tensor, x: Tensor, c: int) -> Any:
        own = (s @ x / T).exp()
        return own / (own + sum((p[k] @ x / T).exp() for k in range(len(p)) if k != c))

    total = torch.zeros(())
    for i, c in enumerate(y):
        attract = [p[c], *(f[j].detach() for j in range(len(y)) if j != i and y[j] == c)]
        total = total - torch.stack([share(s, f[i], c) for s in attract]).mean().log()
        for j in range(len(y)):
            if y[j] != c:
                total = total - (1 - (share(f[i], f[j], c) + share(p[c], f[j], c)) / 2).log()
    return total / len(y)


def test_value_and_gradient_against_the_sums() -> None:
    torch.manual_seed(0)
    raw, p, y = torch.randn(7, 4), normalize(torch.randn(4, 4), dim=1), [0, 1, 1, 3, 0, 0, 3]
    results = []
    for loss in (
        lambda f: pseudo_prototypical_proxy(f, torch.tensor(y), p, torch.ones(4, dtype=torch.bool), 0.4),
        lambda f: one_by_one(f, y, p, 0.4),
    ):
        f = normalize(raw, dim=1).requires_grad_()
        value = loss(f)
        value.backward()
        results.append((value.detach(), f.grad))
    torch.testing.assert_close(*results)


def test_far_samples_at_a_low_temperature_stay_finite() -> None:
    f = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]).requires_grad_()
    p = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])  # every sample on the wrong side
    loss = pseudo_prototypical_proxy(f, torch.tensor([0, 0, 1]), p, torch.ones(2, dtype=torch.bool), 0.01)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(f.grad).all()
