"""Gradient-based sample selection."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from clx.buffer import gss
from clx.buffer.reservoir import Reservoir
from clx.strategy.er import ER
from clx.strategy.finetune import Finetune
from clx.strategy.gss import GSS
from clx.types import Batch, Clock, Objective

ZEROS = [[0.0, 0.0], [0.0, 0.0]]


def buffer(capacity: int, offer: Any = "first_epoch") -> gss.GSS:
    return gss.GSS(capacity, seed=0, offer=offer)


def batch(x: list[list[float]], y: list[int], epoch: int = 0) -> Batch:
    raw = torch.tensor(x)
    return Batch(raw, torch.tensor(y), torch.zeros(len(y)).long(), raw, clock=Clock(epoch=epoch))


def test_scores_by_hand(make_linear: Any) -> None:
    """Zero weights: the gradient is (p - one-hot)(x, 1) with p = (1/2, 1/2). Stored: (1, 0) of class 0. The same again:
    cosine 1; of class 1: -1; (0, 1) of class 0 shares the bias alone, 1 of 2: 1/2; of class 1: -1/2. Plus 1."""
    strategy = GSS(make_linear(ZEROS), buffer(4), replay_size=2, n=3)
    strategy.after_step(batch([[1.0, 0.0]], [0]), Objective({}))
    found = strategy.scores(batch([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 0, 1]))
    torch.testing.assert_close(found, torch.tensor([2.0, 0.0, 1.5, 0.5]))


def test_the_largest_cosine_counts(make_linear: Any) -> None:
    """Stored: (1, 0) of class 0 and of class 1. (1, 0) of class 1 is like the second, whatever the first says."""
    strategy = GSS(make_linear(ZEROS), buffer(4), replay_size=2, n=2)
    strategy.after_step(batch([[1.0, 0.0], [1.0, 0.0]], [0, 1]), Objective({}))
    assert strategy.scores(batch([[1.0, 0.0]], [1])).item() == pytest.approx(2.0)


def test_scores_are_stored_and_decide(make_linear: Any) -> None:
    """Nothing stored: 0.1. A buffer of one gives way to what points the other way (score 0) and to nothing after."""
    strategy = GSS(make_linear(ZEROS), buffer(1), replay_size=2, n=2)
    strategy.after_step(batch([[1.0, 0.0]], [0]), Objective({}))
    assert strategy.buffer.rows["score"].tolist() == pytest.approx([0.1])
    strategy.after_step(batch([[1.0, 0.0]], [1]), Objective({}))
    assert strategy.buffer.samples().y.tolist() == [1]
    assert strategy.buffer.rows["score"].tolist() == pytest.approx([0.0], abs=1e-6)
    strategy.after_step(batch([[0.0, 1.0]], [0], epoch=1), Objective({}))
    assert strategy.buffer.samples().y.tolist() == [1]


def test_scoring_leaves_mode_and_gradients_alone(make_model: Any) -> None:
    strategy = GSS(make_model(), buffer(4), replay_size=2, n=2).train()
    for _ in range(2):
        strategy.after_step(batch(torch.randn(2, 16).tolist(), [0, 1]), Objective({}))
    assert all(module.training for module in strategy.modules())
    assert all(p.grad is None for p in strategy.parameters())


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_what_it_reduces_to(head: str, train_tiny: Any) -> None:
    plain = train_tiny(Finetune, head)
    for capacity, replay_size in ((0, 4), (6, 0)):
        neutral = train_tiny(lambda m, c=capacity, r=replay_size: GSS(m, buffer(c), replay_size=r, n=3), head)
        torch.testing.assert_close(neutral, plain, rtol=0, atol=0)
    er = train_tiny(lambda m: ER(m, buffer(6), replay_size=4), head)
    chosen = train_tiny(lambda m: GSS(m, buffer(6), replay_size=4, n=3), head)
    assert not torch.equal(chosen["body.1.weight"], er["body.1.weight"])
    assert math.isfinite(chosen["body.1.weight"].sum().item())


def test_what_is_refused(make_linear: Any, make_benchmark: Any) -> None:
    model = make_linear(ZEROS)
    with pytest.raises(ValueError, match=r"^n 0 < 1"):
        GSS(model, buffer(4), replay_size=1, n=0)
    assert GSS(model, buffer(4), replay_size=1, n=1).conflict(make_benchmark()) is None
    for wrong in (None, Reservoir(4, 0, offer="first_epoch")):
        assert str(GSS(model, wrong, replay_size=1, n=1).conflict(make_benchmark())).endswith("set buffer=gss")
    late = GSS(model, buffer(4, "experience"), replay_size=1, n=1).conflict(make_benchmark())
    assert str(late).endswith("set first_epoch or every_epoch")
