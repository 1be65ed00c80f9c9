"""The greedy balancing sampler."""

from __future__ import annotations

from collections import Counter
from typing import Any

from clx.buffer.greedy_balanced import GreedyBalanced


def greedy(capacity: int, seed: int = 0) -> GreedyBalanced:
    return GreedyBalanced(capacity, seed, offer="first_epoch")


def test_the_first_are_kept_and_classes_are_level(make_batch: Any, contents: Any) -> None:
    """6 places: the first 6 of class 0; then 3 of class 1 and any 3 of class 0; then 2 of each."""
    buffer = greedy(6)
    buffer.add(make_batch({0: 10}))
    assert contents(buffer) == [(0, n) for n in range(6)]
    buffer.add(make_batch({1: 10}))
    assert {pair for pair in contents(buffer) if pair[0] == 1} == {(1, 0), (1, 1), (1, 2)}
    buffer.add(make_batch({2: 10, 0: 10}, start=20))
    left = contents(buffer)
    assert Counter(label for label, _ in left) == {0: 2, 1: 2, 2: 2}
    assert {pair for pair in left if pair[0] == 2} == {(2, 20), (2, 21)}
    assert all(number < 6 for label, number in left if label == 0)


def test_any_sample_of_the_largest_class_may_go(make_batch: Any, contents: Any) -> None:
    gone: Counter[int] = Counter()
    for seed in range(400):
        buffer = greedy(4, seed)
        buffer.add(make_batch({0: 4, 1: 1}))
        gone.update({0, 1, 2, 3} - {number for label, number in contents(buffer) if label == 0})
    assert all(abs(gone[number] - 100) < 35 for number in range(4))  # four deviations of a quarter of 400


def test_a_share_that_does_not_divide(make_batch: Any, contents: Any) -> None:
    """5 places for 2 classes: below 5 / 2 a sample is taken, so class 1 gets 3."""
    buffer = greedy(5)
    buffer.add(make_batch({0: 9, 1: 9}))
    assert Counter(label for label, _ in contents(buffer)) == {0: 2, 1: 3}


def test_capacity_0_and_state(make_batch: Any, check_same_future: Any) -> None:
    buffer = greedy(0)
    buffer.add(make_batch({0: 3}))
    assert len(buffer) == 0
    check_same_future(lambda: greedy(5))
