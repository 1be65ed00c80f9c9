"""Exemplars whose mean stays close to the class mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clx.buffer.herding import Herding, herd
from clx.types import Samples


def features(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def embed(samples: Samples) -> Tensor:
    """Features that depend on class and number in a way that no order shows through."""
    label, number = samples.raw.unbind(1)
    return torch.stack([(number * (k + 1.7) + label).sin() + 0.3 * k for k in range(4)], 1)


def brute_force(rows: Tensor, count: int) -> list[int]:
    """Algorithm 4 as it is written: pick k makes the mean of the first k picks closest to the class mean."""
    f = rows.double().numpy()
    f = f / np.linalg.norm(f, axis=1, keepdims=True)
    mean = f.sum(0) / np.linalg.norm(f.sum(0))
    picks: list[int] = []
    while len(picks) < count:
        left = [i for i in range(len(f)) if i not in picks]
        distances = [float(np.linalg.norm(mean - f[[*picks, i]].mean(0))) for i in left]
        picks.append(left[int(np.argmin(distances))])
    return picks


@pytest.mark.parametrize(("count", "width", "wanted"), [(30, 8, 12), (12, 2, 12), (7, 40, 3), (1, 3, 1), (5, 3, 0)])
@pytest.mark.parametrize("seed", range(3))
def test_each_pick_is_the_best_of_what_is_left(count: int, width: int, wanted: int, seed: int) -> None:
    rows = features(count, width, seed)
    assert herd(rows, wanted).tolist() == brute_force(rows, wanted)


def test_three_picks_by_hand() -> None:
    """(1, 0), (0, 2) -> (0, 1), (3, 4) -> (.6, .8); their sum (1.6, 1.8) has length 2.408, so mu = (.664, .747).

    First the largest f mu: .664, .747, .996: the third. Then the largest f (2 mu - S) with 2 mu - S = (.729, .695):
    the first. The second is left.
    """
    assert herd(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]]), 3).tolist() == [2, 0, 1]


def test_a_smaller_budget_is_a_prefix() -> None:
    rows = features(20, 5, seed=0)
    whole = herd(rows, 20).tolist()
    assert sorted(whole) == list(range(20))
    assert all(herd(rows, count).tolist() == whole[:count] for count in range(20))


def test_a_sample_without_features_does_no_harm() -> None:
    """A zero vector has no direction; it is picked like any other, once."""
    rows = torch.cat((features(4, 3, seed=0), torch.zeros(1, 3)))
    assert sorted(herd(rows, 5).tolist()) == [0, 1, 2, 3, 4]


def order(contents: Callable[[Herding], list[tuple[int, int]]], buffer: Herding) -> dict[int, list[int]]:
    """class -> numbers in the order in which they are stored."""
    numbers: dict[int, list[int]] = {}
    for label, number in contents(buffer):
        numbers.setdefault(label, []).append(number)
    return numbers


def test_quotas_shrink_to_prefixes(make_experience: Any, contents: Any) -> None:
    """Capacity 11 dealt out in turn: 6 5; with class 2, which has only 2 samples, 5 4 2; with class 3, 3 3 2 3."""
    buffer, chosen = Herding(11, seed=0, per_class=None), {}
    for index, counts, expected in (
        (0, {0: 20, 1: 15}, [6, 5]),
        (1, {2: 2}, [5, 4, 2]),
        (2, {3: 9}, [3, 3, 2, 3]),
    ):
        experience = make_experience(index, counts)
        buffer.consolidate(experience, embed)
        for label in counts:
            mine = experience.data[experience.data.y == label]
            chosen[label] = mine.raw[brute_force(embed(mine), len(mine)), 1].int().tolist()
        stored = order(contents, buffer)
        assert [len(stored[label]) for label in chosen] == expected
        assert len(buffer) == sum(expected) == 11
        for label, numbers in stored.items():
            assert numbers == chosen[label][: len(numbers)]


@pytest.mark.parametrize("capacity", [0, 2])
def test_more_classes_than_places(capacity: int, make_experience: Any, contents: Any) -> None:
    """The first classes keep theirs; classes without a place stay without."""
    buffer = Herding(capacity, seed=0, per_class=None)
    for index in range(3):
        buffer.consolidate(make_experience(index, {2 * index: 4, 2 * index + 1: 4}), embed)
        assert Counter(label for label, _ in contents(buffer)) == dict.fromkeys(range(capacity), 1)


def test_a_class_that_comes_again_is_another(make_experience: Any, contents: Any) -> None:
    """Domains share their classes: each keeps its half of the places."""
    buffer = Herding(4, seed=0, per_class=None)
    buffer.consolidate(make_experience(0, {0: 6}), embed)
    buffer.consolidate(make_experience(1, {0: 6}, start=100), embed)
    assert Counter(number >= 100 for _, number in contents(buffer)) == {False: 2, True: 2}


def test_it_is_filled_at_the_end_alone(make_batch: Any, make_experience: Any) -> None:
    buffer = Herding(4, seed=0, per_class=None)
    buffer.add(make_batch({0: 3}))
    assert len(buffer) == 0
    buffer.fill(make_experience(0, {0: 3}), embed)
    assert len(buffer) == 3
    assert buffer.sample(2).fields == {}


def test_it_goes_on_from_its_state(check_same_future: Any) -> None:
    check_same_future(lambda: Herding(7, seed=3, per_class=None))


def test_a_fixed_number_of_each_class(make_experience: Any, contents: Any) -> None:
    """Two of each of two classes, then of a third, in room for 5: the last class has one place left, and the first
    two keep theirs, which are the first picks."""
    buffer, free = Herding(5, seed=0, per_class=2), Herding(4, seed=0, per_class=None)
    for kind in (buffer, free):
        kind.consolidate(make_experience(0, {0: 10, 1: 10}), embed)
    assert contents(buffer) == contents(free)
    buffer.consolidate(make_experience(1, {2: 10}), embed)
    assert Counter(label for label, _ in contents(buffer)) == {0: 2, 1: 2, 2: 1}
    with pytest.raises(ValueError, match=r"^per_class 0 < 1"):
        Herding(5, seed=0, per_class=0)
