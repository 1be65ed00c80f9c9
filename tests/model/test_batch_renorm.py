"""Batch renormalisation: equal to BatchNorm where it starts, and by hand where it does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.model.batch_renorm import BatchRenorm, renormalize

SAME = {"max_r_max": 1.0, "max_d_max": 0.0, "inc_step": 0.0}


def net(kind: str) -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    if kind == "1d":
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), torch.randn(8, 3)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)), torch.randn(3, 2, 6, 6)


@pytest.mark.parametrize("kind", ["1d", "2d"])
def test_at_r_1_and_d_0_it_is_batch_norm(kind: str) -> None:
    """Outputs, gradients and running statistics over three steps, then evaluation; within 1e-5."""
    plain, x = net(kind)
    for name, value in (("weight", 1.5), ("bias", -0.5), ("running_mean", 0.3), ("running_var", 2.0)):
        nn.init.constant_(getattr(plain[1], name), value)
    other = copy.deepcopy(plain)
    renormalize(other, momentum=0.1, **SAME)
    assert isinstance(other[1], BatchRenorm)
    for _ in range(3):
        for module in (plain, other):
            module.zero_grad()
            module(x).square().sum().backward()
        torch.testing.assert_close(other(x), plain(x), atol=1e-5, rtol=1e-5)
        for a, b in zip(other.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(other[1].running_mean, plain[1].running_mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other[1].running_var, plain[1].running_var, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other.eval()(x), plain.eval()(x), atol=1e-5, rtol=1e-5)


def test_correction_by_hand() -> None:
    """Batch 1, 5: mean 3, deviation 2. Running mean 0, variance 1: r = 2 held at 1.5, d = 3 held at 2 (eps 0).
    (1 - 3) / 2 * 1.5 + 2 = .5 and 3.5; times gamma 2 and beta 1: 2 and 8."""
    layer = BatchRenorm(1, eps=0.0, momentum=0.5, inc_step=0.0)
    layer.r_max.fill_(1.5)
    layer.d_max.fill_(2.0)
    nn.init.constant_(layer.gamma, 2.0)
    nn.init.constant_(layer.beta, 1.0)
    assert layer(torch.tensor([[1.0], [5.0]])).flatten().tolist() == pytest.approx([2.0, 8.0])
    # Half way to mean 3, and to the unbiased variance 8: 1.5 and 4.5.
    assert layer.running_mean.item() == pytest.approx(1.5)
    assert layer.running_var.item() == pytest.approx(4.5)


def test_the_gradient_takes_the_correction_as_fixed() -> None:
    """Against autograd over the formula with r and d as constants. Tolerance: float64."""
    torch.manual_seed(0)
    layer = BatchRenorm(3, inc_step=0.0).double()
    layer.r_max.fill_(1.2)
    layer.d_max.fill_(0.3)
    x, weight = torch.randn(7, 3, dtype=torch.float64) * 2 + 1, torch.randn(7, 3, dtype=torch.float64)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    mean, std = theirs.mean(0), (theirs.var(0, unbiased=False) + layer.eps).sqrt()
    running = (layer.running_var + layer.eps).sqrt()
    r = (std / running).clamp(1 / 1.2, 1.2).detach()
    d = ((mean - layer.running_mean) / running).clamp(-0.3, 0.3).detach()
    (((theirs - mean) / std * r + d) * weight).sum().backward()
    (layer(mine) * weight).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


def test_the_schedule_counts_samples() -> None:
    """128 samples a step at 4.1e-5: r_max grows by .005248, from 1 to 1.25 in 48 steps; d_max to .5 in 96."""
    layer = BatchRenorm(1)
    x = torch.randn(128, 1)
    steps = []
    for _ in range(100):
        layer(x)
        steps.append((layer.r_max.item(), layer.d_max.item()))
    assert steps[0] == pytest.approx((1 + 128 * 4.1e-5, 128 * 4.1e-5), abs=1e-5)
    assert next(i for i, (r, _) in enumerate(steps, 1) if r >= 1.25) == 48
    assert next(i for i, (_, d) in enumerate(steps, 1) if d >= 0.5) == 96
    before = layer.r_max.item()
    layer.eval()(x)
    assert layer.r_max.item() == before


def test_a_fresh_one_is_finite_and_bears_a_single_sample() -> None:
    layer = BatchRenorm(2)
    assert bool(torch.isfinite(layer(torch.zeros(4, 2))).all())
    assert torch.equal(layer(torch.ones(1, 2)), layer.eval()(torch.ones(1, 2)))


def test_every_batch_norm_of_a_net_is_replaced(make_linear: Any) -> None:
    plain = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3)), nn.BatchNorm1d(2, affine=False), nn.ReLU())
    renormalize(plain, momentum=0.2, max_r_max=3.0, max_d_max=5.0, inc_step=1e-3)
    first, second = plain[0][0], plain[1]
    assert isinstance(first, BatchRenorm)
    assert isinstance(second, BatchRenorm)
    assert (first.momentum, first.max_r_max, first.max_d_max, first.inc_step) == (0.2, 3.0, 5.0, 1e-3)
