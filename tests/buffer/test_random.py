"""A uniform sample of everything seen, renewed at the end of each experience."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clx.buffer.random import Random
from clx.types import Samples

CRITICAL_19 = 43.82  # chi-squared with 19 degrees of freedom exceeds it once in a thousand


def unused(samples: Samples) -> torch.Tensor:
    raise AssertionError("nothing here needs features")


def test_every_sample_is_as_likely(make_experience: Any, contents: Any) -> None:
    """Experiences of 3, 10 and 7 samples, capacity 5: each of the 20 with p = 1/4; 600 seeds. The first experience
    does not fill the buffer, the second overfills it.

    Without replacement, 19/20 sum (O - R p)^2 / (R p (1 - p)) is chi-squared with 19 degrees of freedom.
    """
    repetitions, p = 600, 0.25
    parts = [(0, 3), (3, 10), (13, 7)]
    experiences = [make_experience(i, {i: count}, start=start) for i, (start, count) in enumerate(parts)]
    hits = torch.zeros(20, dtype=torch.float64)
    for seed in range(repetitions):
        buffer = Random(5, seed)
        for experience in experiences:
            buffer.consolidate(experience, unused)
        hits[[number for _, number in contents(buffer)]] += 1
    assert hits.sum() == 5 * repetitions  # no sample twice
    statistic = (hits - repetitions * p).square().sum() / (repetitions * p * (1 - p)) * 19 / 20
    assert statistic < CRITICAL_19


@pytest.mark.parametrize("capacity", [0, 1, 6, 100])
def test_it_holds_what_was_seen_and_never_too_much(capacity: int, make_experience: Any, contents: Any) -> None:
    buffer, seen = Random(capacity, seed=0), set()
    for index in range(3):
        buffer.consolidate(make_experience(index, {2 * index: 3, 2 * index + 1: 2}), unused)
        seen |= {(2 * index, n) for n in range(3)} | {(2 * index + 1, n) for n in range(2)}
        kept = contents(buffer)
        assert len(buffer) == len(kept) == len(set(kept)) == min(capacity, len(seen))
        assert set(kept) <= seen


def test_the_seed_decides(make_experience: Any, contents: Any) -> None:
    kept = []
    for seed in (0, 0, 1):
        buffer = Random(6, seed)
        buffer.consolidate(make_experience(0, {0: 20, 1: 20}), unused)
        kept.append(contents(buffer))
    assert kept[0] == kept[1] != kept[2]


def test_it_is_filled_at_the_end_alone(make_batch: Any, make_experience: Any) -> None:
    buffer = Random(4, seed=0)
    buffer.add(make_batch({0: 3}))
    assert len(buffer) == 0
    buffer.fill(make_experience(0, {0: 3}), unused)
    assert len(buffer) == 3


def test_it_goes_on_from_its_state(check_same_future: Any) -> None:
    check_same_future(lambda: Random(7, seed=3))
