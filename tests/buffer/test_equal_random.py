"""Random exemplars, as many for each class."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from clx.buffer.equal_random import EqualRandom
from clx.types import Samples

CRITICAL_9 = 27.88  # chi-squared with 9 degrees of freedom exceeds it once in a thousand


def unused(samples: Samples) -> torch.Tensor:
    raise AssertionError("nothing here needs features")


@pytest.mark.parametrize(
    ("capacity", "expected"),
    [(9, [[5, 4], [3, 3, 3]]), (11, [[6, 5], [4, 4, 3]]), (2, [[1, 1], [1, 1, 0]]), (0, [[0, 0], [0, 0, 0]])],
)
def test_equal_shares(capacity: int, expected: list[list[int]], make_experience: Any, contents: Any) -> None:
    """What does not divide goes to the first classes; old classes give up some of what they had and get nothing new."""
    buffer = EqualRandom(capacity, seed=0, per_class=None)
    before: set[tuple[int, int]] = set()
    for index, counts in enumerate(({0: 20, 1: 20}, {2: 20})):
        buffer.consolidate(make_experience(index, counts), unused)
        stored = contents(buffer)
        shares = Counter(label for label, _ in stored)
        assert [shares[label] for label in range(len(expected[index]))] == expected[index]
        assert len(set(stored)) == len(stored) == capacity
        assert {pair for pair in stored if pair[0] not in counts} <= before
        before = set(stored)


def test_every_sample_of_a_class_is_as_likely(make_experience: Any, contents: Any) -> None:
    """Two classes of 10, then a third, capacity 9: 3 of each, p = 0.3; 400 seeds. Draws without replacement:
    9/10 sum (O - R p)^2 / (R p (1 - p)) is chi-squared with 9 degrees of freedom."""
    repetitions, p = 400, 0.3
    experiences = make_experience(0, {0: 10, 1: 10}), make_experience(1, {2: 10})
    hits = torch.zeros(3, 10, dtype=torch.float64)
    for seed in range(repetitions):
        buffer = EqualRandom(9, seed, per_class=None)
        for experience in experiences:
            buffer.consolidate(experience, unused)
        for label, number in contents(buffer):
            hits[label, number] += 1
    statistics = 0.9 * (hits - repetitions * p).square().sum(1) / (repetitions * p * (1 - p))
    assert statistics.max() < CRITICAL_9


def test_the_seed_decides(make_experience: Any, contents: Any) -> None:
    kept = []
    for seed in (0, 0, 1):
        buffer = EqualRandom(6, seed, per_class=None)
        buffer.consolidate(make_experience(0, {0: 20, 1: 20}), unused)
        kept.append(contents(buffer))
    assert kept[0] == kept[1] != kept[2]


def test_it_is_filled_at_the_end_alone(make_batch: Any, make_experience: Any) -> None:
    buffer = EqualRandom(4, seed=0, per_class=None)
    buffer.add(make_batch({0: 3}))
    assert len(buffer) == 0
    buffer.fill(make_experience(0, {0: 3}), unused)
    assert len(buffer) == 3
    assert buffer.sample(2).fields == {}


def test_it_goes_on_from_its_state(check_same_future: Any) -> None:
    check_same_future(lambda: EqualRandom(7, seed=3, per_class=None))
