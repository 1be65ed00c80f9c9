"""Contrastive losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from clx.loss.contrastive import supervised_contrastive

RIGHT, UP = [1.0, 0.0], [0.0, 1.0]


def test_by_hand() -> None:
    """Temperature 1/ln 2: similarities 1 and 0 weigh 2 and 1. Anchor (1, 0) of class 0 against (1, 0) of 0, (0, 1) of
    0 and (0, 1) of 1: shares 2/4 and 1/4 of its positives, -(ln 1/2 + ln 1/4) / 2 = 1.5 ln 2. The anchor of class 2
    has no positive and does not count."""
    anchors = torch.tensor([RIGHT, UP])
    loss = supervised_contrastive(
        anchors, torch.tensor([0, 2]), torch.tensor([RIGHT, UP, UP]), torch.tensor([0, 0, 1]), 1 / math.log(2)
    )
    assert loss.item() == pytest.approx(1.5 * math.log(2), abs=1e-6)


def test_an_excluded_pair_is_neither_positive_nor_negative() -> None:
    """The same without the first pair: shares of 1 + 1, so the one positive has 1/2."""
    loss = supervised_contrastive(
        torch.tensor([RIGHT]),
        torch.tensor([0]),
        torch.tensor([RIGHT, UP, UP]),
        torch.tensor([0, 0, 1]),
        1 / math.log(2),
        torch.tensor([[True, False, False]]),
    )
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)


def test_one_pair_at_a_time() -> None:
    """Against the sums of the paper, term by term; gradients are finite where a pair is excluded."""
    torch.manual_seed(0)
    f = normalize(torch.randn(6, 4), dim=1).requires_grad_()
    y, tau = torch.tensor([0, 1, 0, 1, 1, 2]), 0.3
    total, anchors = 0.0, 0
    for i in range(6):
        weights = [math.exp(float(f[i].detach() @ f[j].detach()) / tau) for j in range(6)]
        positives = [j for j in range(6) if j != i and y[j] == y[i]]
        if positives:
            rest = sum(weights) - weights[i]
            total -= sum(math.log(weights[j] / rest) for j in positives) / len(positives)
            anchors += 1
    loss = supervised_contrastive(f, y, f, y, tau, torch.eye(6, dtype=torch.bool))
    assert loss.item() == pytest.approx(total / anchors, rel=1e-5)
    loss.backward()
    assert torch.isfinite(f.grad).all()


def test_no_positive_is_0() -> None:
    one = torch.tensor([RIGHT])
    assert supervised_contrastive(one, torch.tensor([0]), one, torch.tensor([1]), 0.1).item() == 0
    none = torch.zeros(0, 2)
    assert supervised_contrastive(none, torch.zeros(0), none, torch.zeros(0), 0.1).item() == 0
