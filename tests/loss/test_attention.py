"""Hard attention to the task."""

from __future__ import annotations

import math

import pytest
import torch

from clx.loss.attention import annealed, capacity, compensation


@pytest.mark.parametrize(("step", "steps", "expected"), [(0, 3, 0.25), (1, 3, 2.125), (2, 3, 4.0), (0, 1, 4.0)])
def test_annealing(step: int, steps: int, expected: float) -> None:
    """s_max 4: 1/4, 1/4 + 15/4 / 2, 4."""
    assert annealed(step, steps, 4.0) == pytest.approx(expected)


def test_capacity_by_hand() -> None:
    """Free: units of gates 0.5 and 0.1 in the first layer, 1 in the second: 1.6 / 3; a used one costs nothing."""
    gates = [torch.tensor([0.5, 0.9, 0.1]), torch.tensor([1.0])]
    used = [torch.tensor([False, True, False]), torch.tensor([False])]
    assert capacity(gates, used).item() == pytest.approx(1.6 / 3)
    assert capacity(gates[1:], [torch.tensor([True])]).item() == 0.0


def test_compensation_turns_one_gradient_into_the_other() -> None:
    """The gradient of sigmoid(s e) is s / (2 cosh(s e) + 2); times the factor it is s_max / (2 cosh(e) + 2)."""
    e = torch.tensor([-1.0, 0.0, 0.5], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(torch.sigmoid(3 * e).sum(), e)
    (wanted,) = torch.autograd.grad(400 * torch.sigmoid(e).sum(), e)
    torch.testing.assert_close(gradient * compensation(e.detach(), 3.0, 400.0), wanted)


def test_compensation_stays_finite() -> None:
    """s e = 2400 counts as 50: 400 / 400 (cosh 50 + 1) / (cosh 6 + 1)."""
    found = compensation(torch.tensor([6.0], dtype=torch.float64), 400.0, 400.0).item()
    assert found == pytest.approx((math.cosh(50) + 1) / (math.cosh(6) + 1))
