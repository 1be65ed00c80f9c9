"""The buffer of gradient-based sample selection."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from clx.buffer.gss import GSS


def gss(capacity: int, seed: int = 0) -> GSS:
    return GSS(capacity, seed, offer="first_epoch")


def scored(buffer: GSS, batch: Any, *scores: float) -> None:
    buffer.add(batch, score=torch.tensor(scores))


def test_all_are_taken_while_there_is_room(make_batch: Any, contents: Any) -> None:
    """However alike; the first that finds it full is refused at a score of 1 or more."""
    buffer = gss(3)
    scored(buffer, make_batch({0: 2}), 2.0, 1.5)
    scored(buffer, make_batch({1: 3}), 1.9, 1.0, 1.2)
    assert contents(buffer) == [(0, 0), (0, 1), (1, 0)]
    torch.testing.assert_close(buffer.rows["score"], torch.tensor([2.0, 1.5, 1.9]))


def test_the_redundant_are_given_up(make_batch: Any, contents: Any) -> None:
    """Scores 0.9, 0 and 0.3: by chance 3/4, 0 and 1/4. A newcomer of 0.1 then replaces with 0.9 / 1 or 0.3 / 0.4: of
    4,000 trials 3,000 * 0.9 = 2,700 and 1,000 * 0.75 = 750, within four deviations (118, 103)."""
    lost: Counter[int] = Counter()
    for seed in range(4000):
        buffer = gss(3, seed)
        scored(buffer, make_batch({0: 3}), 0.9, 0.0, 0.3)
        scored(buffer, make_batch({1: 1}), 0.1)
        left = {number for label, number in contents(buffer) if label == 0}
        lost.update({0, 1, 2} - left)
    assert abs(lost[0] - 2700) < 118
    assert abs(lost[2] - 750) < 103
    assert lost[1] == 0


def test_a_replaced_sample_leaves_its_score(make_batch: Any, contents: Any) -> None:
    """One place; 1.9 gives way to 0 for certain, and then the place is never left again: 0 / (0 + c)."""
    buffer = gss(1)
    scored(buffer, make_batch({0: 1}), 1.9)
    scored(buffer, make_batch({1: 3}), 0.0, 0.5, 0.2)
    assert contents(buffer) == [(1, 0)]
    scored(buffer, make_batch({2: 2}), 0.5, 0.2)
    assert contents(buffer) == [(1, 0)]


def test_without_scores_a_random_one_is_replaced_every_second_time(make_batch: Any, contents: Any) -> None:
    """1,000 newcomers of four batches in 100 places: none of the first 100 has a chance of more than (1 - 1/200)^1000 =
    0.7 % to stay, so 100 of the last batches are there, from all of the buffer."""
    buffer = gss(100)
    for start in range(0, 1100, 100):
        buffer.add(make_batch({0: 100}, start=start))
    numbers = [number for _, number in contents(buffer)]
    assert len(set(numbers)) == 100
    assert sum(number < 100 for number in numbers) <= 4
    assert sum(number >= 1000 for number in numbers) >= 25


def test_no_batch_is_given_the_scores(make_batch: Any) -> None:
    buffer = gss(3)
    scored(buffer, make_batch({0: 2}), 0.5, 0.5)
    assert buffer.sample(2).fields == {}


def test_goes_on_from_its_state(check_same_future: Any) -> None:
    check_same_future(lambda: gss(4))
    check_same_future(lambda: GSS(4, 0, offer="experience"))


def test_capacity_0(make_batch: Any) -> None:
    buffer = gss(0)
    scored(buffer, make_batch({0: 2}), 0.5, 0.5)
    assert len(buffer) == 0
