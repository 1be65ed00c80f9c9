"""Gradient episodic memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from clx.buffer.equal_random import EqualRandom
from clx.buffer.ring import Ring
from clx.strategy.finetune import Finetune
from clx.strategy.gem import GEM
from clx.types import Batch, Clock

ZEROS = [[0.0, 0.0], [0.0, 0.0]]


def ring(capacity: int = 4) -> Ring:
    return Ring(capacity, 0, offer="first_epoch")


def batch(x: list[float], y: int, experience: int) -> Batch:
    raw = torch.tensor([x])
    return Batch(raw, torch.tensor([y]), torch.zeros(1, dtype=torch.int64), raw, clock=Clock(experience=experience))


def gradient(strategy: GEM, stream: Batch) -> Tensor:
    strategy.zero_grad()
    strategy.observe(stream).terms["ce"].backward()
    strategy.after_backward(stream)
    return torch.cat([p.grad.flatten() for p in strategy.model.parameters() if p.grad is not None])


G = [-1 / 2, 0, 1 / 2, 0, -1 / 2, 1 / 2]


@pytest.mark.parametrize(
    ("memories", "gamma", "expected"),
    [
        # v = 1 / (3/2): g + 2/3 r1.
        ([([1.0, 1.0], 1, 0)], 0.0, [-1 / 6, 1 / 3, 1 / 6, -1 / 3, -1 / 6, 1 / 6]),
        # v = 2 at the least: g + 2 r1.
        ([([1.0, 1.0], 1, 0)], 2.0, [1 / 2, 1, -1 / 2, -1, 1 / 2, -1 / 2]),
        # g r2 = +1/2 with r2 = 0 0 | 0 0 | -1/2, 1/2 alone: as it was.
        ([([0.0, 0.0], 0, 0)], 0.5, G),
        # Both: r1 r2 = -1/2, so GG' = 3/2 -1/2 | -1/2 1/2, Gg = -1, 1/2. v = (2/3, 0) leaves g + 2/3 r1, which the
        # second does not like: r2 (g + 2/3 r1) = 1/2 - 1/3 = 1/6 >= 0, so it does.
        ([([1.0, 1.0], 1, 0), ([0.0, 0.0], 0, 1)], 0.0, [-1 / 6, 1 / 3, 1 / 6, -1 / 3, -1 / 6, 1 / 6]),
        # At gamma 1/2 the second is 1/2 at least, and the first solves 3/2 v - 1/4 - 1 = 0: v = 5/6, 1/2.
        # The bias: -1/2 + 5/12 - 1/4 = -1/3.
        ([([1.0, 1.0], 1, 0), ([0.0, 0.0], 0, 1)], 0.5, [-1 / 12, 5 / 12, 1 / 12, -5 / 12, -1 / 3, 1 / 3]),
        # What belongs to the experience at hand is no constraint.
        ([([1.0, 1.0], 1, 2)], 0.5, G),
    ],
)
def test_projection_by_hand(
    memories: list[tuple[list[float], int, int]], gamma: float, expected: list[float], make_linear: Any
) -> None:
    """Zero weights: p = (1/2, 1/2), and a gradient is (p - one-hot) (x, 1): rows of class 0, of class 1, biases.

    Stream (1, 0) of class 0: g = -1/2, 0 | 1/2, 0 | -1/2, 1/2. A memory (1, 1) of class 1: r1 = 1/2, 1/2 | -1/2,
    -1/2 | 1/2, -1/2, so that g r1 = -1, r1 r1 = 3/2.
    """
    strategy = GEM(make_linear(ZEROS), ring(), gamma=gamma, ridge=1e-9)
    for x, y, experience in memories:
        memory = batch(x, y, experience)
        strategy.after_step(memory, strategy.observe(memory))
    found = gradient(strategy, batch([1.0, 0.0], 0, 2))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-6)


def test_the_first_experience_is_free(make_linear: Any) -> None:
    strategy = GEM(make_linear(ZEROS), ring(), gamma=0.5, ridge=1e-3)
    memory = batch([1.0, 1.0], 1, 0)
    strategy.after_step(memory, strategy.observe(memory))
    assert gradient(strategy, batch([1.0, 0.0], 0, 0)).tolist() == G


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_capacity_0_is_finetune(head: str, train_tiny: Any) -> None:
    plain = train_tiny(Finetune, head)
    neutral, projected = (
        train_tiny(lambda model, c=capacity: GEM(model, ring(c), gamma=0.5, ridge=1e-3), head) for capacity in (0, 12)
    )
    torch.testing.assert_close(neutral, plain, rtol=0, atol=0)
    assert not torch.equal(projected["body.1.weight"], plain["body.1.weight"])


def test_what_is_refused(make_linear: Any, make_benchmark: Any) -> None:
    model, good = make_linear(ZEROS), {"gamma": 0.5, "ridge": 1e-3}
    for wrong, start in (({"gamma": -0.1}, "gamma -0.1 < 0"), ({"ridge": 0.0}, "ridge 0.0 is not above 0")):
        with pytest.raises(ValueError, match=f"^{start}"):
            GEM(model, ring(), **(good | wrong))
    assert GEM(model, ring(), **good).conflict(make_benchmark()) is None
    for buffer, end in (
        (None, "set buffer=ring"),
        (EqualRandom(4, seed=0, per_class=None), "set buffer=ring or reservoir"),
        (Ring(4, 0, offer="experience"), "set buffer.offer=first_epoch"),
    ):
        assert str(GEM(model, buffer, **good).conflict(make_benchmark())).endswith(end)
