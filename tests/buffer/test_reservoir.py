"""A uniform sample of everything seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from clx.buffer.reservoir import Reservoir
from clx.types import Experience

CRITICAL_9 = 27.88  # chi-squared with 9 degrees of freedom exceeds it once in a thousand


def feed(buffer: Reservoir, make_batch: Callable[..., Any], count: int, size: int) -> None:
    """Samples 0 .. count - 1 of class 3, in batches of `size`."""
    for start in range(0, count, size):
        buffer.add(make_batch({3: min(size, count - start)}, start=start))


@pytest.mark.parametrize("size", [1, 4, 10])
def test_every_sample_is_as_likely(size: int, make_batch: Any) -> None:
    """2 of 10 are kept, so each with p = 1/5; 600 seeds.

    The counts O of a draw without replacement have variance R p (1 - p) and correlation -1/9, so
    9/10 sum (O - R p)^2 / (R p (1 - p)) is chi-squared with 9 degrees of freedom. Drawing the slot of sample n from
    0 .. n - 1 instead of 0 .. n, the first two would be kept with 1/9 each: about 60.
    """
    count, capacity, repetitions = 10, 2, 600
    hits = torch.zeros(count, dtype=torch.float64)
    for seed in range(repetitions):
        buffer = Reservoir(capacity, seed, offer="first_epoch")
        feed(buffer, make_batch, count, size)
        hits[buffer.samples().raw[:, 1].long()] += 1
    p = capacity / count
    assert hits.sum() == repetitions * capacity  # no sample twice
    statistic = (hits - repetitions * p).square().sum() / (repetitions * p * (1 - p)) * (count - 1) / count
    assert statistic < CRITICAL_9


@pytest.mark.parametrize("size", [1, 3, 30])
@pytest.mark.parametrize("capacity", [0, 1, 4, 100])
def test_it_holds_what_was_offered_and_never_too_much(capacity: int, size: int, make_batch: Any, contents: Any) -> None:
    buffer = Reservoir(capacity, seed=0, offer="first_epoch")
    for seen, start in enumerate(range(0, 30, size), start=1):
        buffer.add(make_batch({3: size}, start=start))
        kept = contents(buffer)
        assert len(buffer) == len(kept) == len(set(kept)) == min(capacity, seen * size)
        assert set(kept) <= {(3, number) for number in range(seen * size)}


def test_the_first_samples_fill_it_in_order(make_batch: Any, contents: Any) -> None:
    buffer = Reservoir(5, seed=0, offer="first_epoch")
    feed(buffer, make_batch, count=5, size=2)
    assert contents(buffer) == [(3, 0), (3, 1), (3, 2), (3, 3), (3, 4)]


@pytest.mark.parametrize(
    ("offer", "expected"), [("first_epoch", [3, 3, 3]), ("every_epoch", [3, 6, 6]), ("experience", [0, 0, 3])]
)
def test_when_samples_are_offered(offer: Any, expected: list[int], make_batch: Any, make_experience: Any) -> None:
    """3 samples in two epochs, then their experience is over: once, twice, or once at the end."""
    buffer, found = Reservoir(10, seed=0, offer=offer), []
    for epoch in range(2):
        buffer.add(make_batch({3: 3}, epoch=epoch))
        found.append(len(buffer))
    buffer.consolidate(make_experience(0, {3: 3}), lambda samples: samples.raw)
    assert [*found, len(buffer)] == expected
    assert buffer.num_seen == expected[-1]


def test_the_seed_decides(make_batch: Any, contents: Any) -> None:
    kept = []
    for seed in (0, 0, 1):
        buffer = Reservoir(5, seed, offer="first_epoch")
        feed(buffer, make_batch, count=40, size=8)
        kept.append(contents(buffer))
    assert kept[0] == kept[1] != kept[2]


@pytest.mark.parametrize("offer", ["first_epoch", "every_epoch", "experience"])
def test_a_whole_experience_at_once(offer: Any, make_experience: Callable[..., Experience], contents: Any) -> None:
    """For strategies that do not add step by step, whenever samples are offered otherwise."""
    buffer = Reservoir(9, seed=0, offer=offer)
    buffer.fill(make_experience(0, {0: 2, 1: 3}), lambda samples: samples.raw)
    assert contents(buffer) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


@pytest.mark.parametrize("offer", ["first_epoch", "every_epoch", "experience"])
def test_it_goes_on_from_its_state(offer: Any, check_same_future: Any) -> None:
    check_same_future(lambda: Reservoir(6, seed=3, offer=offer))
