"""A reservoir for every class."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from clx.buffer.class_balanced import ClassBalanced

CRITICAL_9 = 27.88  # chi-squared with 9 degrees of freedom exceeds it once in a thousand


@pytest.mark.parametrize("size", [1, 6, 24])
@pytest.mark.parametrize("capacity", [1, 4, 7, 10])
def test_classes_stay_level(capacity: int, size: int, make_batch: Any, contents: Any) -> None:
    """Four classes of 24 samples one after the other: shares of those that came never differ by more than one."""
    buffer = ClassBalanced(capacity, seed=0, offer="first_epoch")
    for label in range(4):
        for start in range(0, 24, size):
            buffer.add(make_batch({label: size}, start=start))
        stored = contents(buffer)
        assert len(stored) == len(set(stored)) == capacity
        shares = Counter(c for c, _ in stored)
        assert max(shares.values()) - min(shares[c] for c in range(label + 1)) <= 1


def test_a_rare_class_stays_whole(make_batch: Any, contents: Any) -> None:
    """2 samples of class 1 among 60 of class 0, capacity 8: class 1 never is the largest, so 0 gives up its places."""
    buffer = ClassBalanced(8, seed=0, offer="first_epoch")
    for counts in ({0: 30}, {1: 2}, {0: 30}):
        buffer.add(make_batch(counts))
    stored = contents(buffer)
    assert {pair for pair in stored if pair[0] == 1} == {(1, 0), (1, 1)}
    assert len(stored) == 8


@pytest.mark.parametrize("stored_between", [False, True])
def test_a_class_that_was_the_largest_takes_from_its_own(stored_between: bool, make_batch: Any, contents: Any) -> None:
    """5 places: class 0 fills them, class 1 takes 3. Class 0 is smaller now, but it was the largest once: more of it
    goes through its own two places, also after the buffer was stored and loaded."""
    buffer = ClassBalanced(5, seed=0, offer="first_epoch")
    for label in (0, 1):
        buffer.add(make_batch({label: 10}))
    if stored_between:
        state, buffer = buffer.state_dict(), ClassBalanced(5, seed=0, offer="first_epoch")
        buffer.load_state_dict(state)
    buffer.add(make_batch({0: 200}, start=10))
    stored = contents(buffer)
    assert Counter(label for label, _ in stored) == {0: 2, 1: 3}
    assert all(number >= 10 for label, number in stored if label == 0)


@pytest.mark.parametrize("stream", [[{0: 10}], [{0: 10}, {1: 10}], [{0: 4}, {1: 10}, {0: 6}]])
def test_every_sample_of_a_class_is_as_likely(stream: list[dict[int, int]], make_batch: Any, contents: Any) -> None:
    """10 samples of each class, capacity 4, 500 seeds. With p the mean share of a class that is kept, the counts O of
    its samples have variance R p (1 - p) at most, and sum (O - R p)^2 / (R p (1 - p)) is chi-squared with 9 degrees
    of freedom at most."""
    repetitions = 500
    hits = torch.zeros(2, 10, dtype=torch.float64)
    for seed in range(repetitions):
        buffer = ClassBalanced(4, seed, offer="first_epoch")
        start = Counter[int]()
        for counts in stream:
            for label, count in counts.items():
                buffer.add(make_batch({label: count}, start=start[label]))
                start[label] += count
        for label, number in contents(buffer):
            hits[label, number] += 1
    assert hits.sum() == 4 * repetitions
    for label in start:
        p = hits[label].mean() / repetitions
        statistic = (hits[label] - repetitions * p).square().sum() / (repetitions * p * (1 - p))
        assert statistic < CRITICAL_9


@pytest.mark.parametrize(
    ("capacity", "offer", "expected"),
    [
        (9, "first_epoch", [3, 3, 3]),
        (9, "every_epoch", [3, 6, 6]),
        (9, "experience", [0, 0, 3]),
        (0, "every_epoch", [0, 0, 0]),
        (0, "experience", [0, 0, 0]),
    ],
)
def test_when_samples_are_offered(
    capacity: int, offer: Any, expected: list[int], make_batch: Any, make_experience: Any
) -> None:
    """3 samples in two epochs, then their experience is over: once, twice, or once at the end."""
    buffer, found = ClassBalanced(capacity, seed=0, offer=offer), []
    for epoch in range(2):
        buffer.add(make_batch({0: 2, 1: 1}, epoch=epoch))
        found.append(len(buffer))
    buffer.consolidate(make_experience(0, {0: 2, 1: 1}), lambda samples: samples.raw)
    assert [*found, len(buffer)] == expected


def test_it_goes_on_from_its_state(check_same_future: Any) -> None:
    check_same_future(lambda: ClassBalanced(7, seed=3, offer="every_epoch"))
