"""Dark experience replay with labels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from clx.buffer.reservoir import Reservoir
from clx.strategy.der import DER
from clx.strategy.derpp import DERPP
from clx.strategy.finetune import Finetune
from clx.types import Batch, Objective

LN3 = math.log(3)
IDENTITY = [[1.0, 0.0], [0.0, 1.0]]


def batch(x: list[list[float]], y: list[int]) -> Batch:
    raw = torch.tensor(x)
    return Batch(raw, torch.tensor(y), torch.zeros(len(y), dtype=torch.int64), raw)


def reservoir(capacity: int) -> Reservoir:
    return Reservoir(capacity, seed=0, offer="first_epoch")


def test_terms_by_hand(make_linear: Any) -> None:
    """Logits = inputs. ce of (0, 0): ln 2. (0, ln 3) of class 0 was stored with logits (2, ln 3): dark 0.5 (4 + 0) / 2
    = 1; replay 0.25 (-ln 1/4) = 0.25 ln 4."""
    strategy = DERPP(make_linear(IDENTITY), reservoir(4), alpha=0.5, beta=0.25, replay_size=3)
    strategy.after_step(batch([[0.0, LN3]], [0]), Objective({}, torch.tensor([[2.0, LN3]])))
    objective = strategy.observe(batch([[0.0, 0.0]], [1]))
    terms = {name: value.item() for name, value in objective.terms.items()}
    expected = {"ce": math.log(2), "dark": 1.0, "replay": 0.25 * math.log(4)}
    assert terms == pytest.approx(expected, abs=1e-6)
    assert objective.logits.tolist() == [[0.0, 0.0]]


def test_two_independent_draws(make_linear: Any) -> None:
    """Sample i is (i, 0) of class 0 with stored logits (0, 0), one is drawn each time: dark i^2 / 2 tells the first
    draw, replay -ln(1 / (1 + e^-i)) the second. Over 100 steps of 4 samples they agree about one time in four."""
    strategy = DERPP(make_linear(IDENTITY), reservoir(4), alpha=1.0, beta=1.0, replay_size=1)
    numbers = torch.arange(1.0, 5.0)
    samples = torch.stack((numbers, torch.zeros(4)), 1)
    strategy.after_step(batch(samples.tolist(), [0] * 4), Objective({}, torch.zeros(4, 2)))
    pairs = []
    for _ in range(100):
        terms = strategy.observe(batch([[0.0, 0.0]], [0])).terms
        first = math.sqrt(2 * terms["dark"].item())
        second = -math.log(math.expm1(terms["replay"].item()))
        pairs.append((round(first), round(second)))
    assert {a for a, _ in pairs} == {b for _, b in pairs} == {1, 2, 3, 4}
    assert 10 <= sum(a == b for a, b in pairs) <= 45


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_what_it_reduces_to(head: str, train_tiny: Any) -> None:
    plain = train_tiny(Finetune, head)
    der = train_tiny(lambda m: DER(m, reservoir(6), alpha=0.5, replay_size=4), head)
    for capacity, alpha, beta, wanted in ((6, 0.5, 0.0, der), (6, 0.0, 0.0, plain), (0, 0.5, 0.5, plain)):
        neutral = train_tiny(
            lambda m, c=capacity, a=alpha, b=beta: DERPP(m, reservoir(c), alpha=a, beta=b, replay_size=4), head
        )
        torch.testing.assert_close(neutral, wanted, rtol=0, atol=0)
    replayed = train_tiny(lambda m: DERPP(m, reservoir(6), alpha=0.5, beta=0.5, replay_size=4), head)
    assert not torch.equal(replayed["body.1.weight"], der["body.1.weight"])


def test_what_is_refused(make_linear: Any) -> None:
    with pytest.raises(ValueError, match=r"^beta -1 < 0"):
        DERPP(make_linear(IDENTITY), reservoir(4), alpha=1, beta=-1, replay_size=1)
