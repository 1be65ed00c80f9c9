"""A share of the memory is replaced after each experience."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from clx.buffer.latent_replay import LatentReplay, composition
from clx.types import Clock


def none(samples: Any) -> torch.Tensor:
    raise AssertionError("nothing here needs features")


def filled(capacity: int, *sizes: int, make: Any, seed: int = 0) -> LatentReplay:
    """After experiences of so many samples, experience i of class i."""
    buffer = LatentReplay(capacity, seed)
    for index, size in enumerate(sizes):
        buffer.consolidate(make(index, {index: size}), none)
    return buffer


@pytest.mark.parametrize(
    ("capacity", "sizes", "expected"),
    [
        (12, (30,), {0: 12}),
        (12, (30, 30), {0: 6, 1: 6}),  # 12 / 2 replaced
        (12, (5,), {0: 5}),
        (12, (5, 4), {0: 5, 1: 4}),  # while there is room everything stays
        (12, (5, 30), {0: 5, 1: 7}),  # more than 12 / 2 where there is room for it
        (12, (30, 2), {0: 10, 1: 2}),
        (0, (30, 30), {}),
    ],
)
def test_what_is_stored(capacity: int, sizes: Any, expected: Any, make_experience: Any, contents: Any) -> None:
    """contents() also checks that every label is the one of its input."""
    stored = contents(filled(capacity, *sizes, make=make_experience))
    assert len(set(stored)) == len(stored)
    assert Counter(label for label, _ in stored) == expected


def test_the_third_experience_takes_a_third(make_experience: Any, contents: Any) -> None:
    stored = Counter(label for label, _ in contents(filled(12, 30, 30, 30, make=make_experience)))
    assert stored[2] == 4
    assert sum(stored.values()) == 12


def test_its_bytes_are_those_of_its_capacity(make_experience: Any) -> None:
    """Two floats, a class and a label for each of 12."""
    assert filled(12, 30, make=make_experience).nbytes == 12 * (2 * 4 + 8 + 8)


@pytest.mark.parametrize(
    ("new", "stored", "batch", "expected"),
    [
        (300, 1500, 128, (21, 107)),  # the paper's
        (300, 0, 128, (128, 0)),
        (10, 20, 128, (10, 118)),  # less than one batch
        (5000, 10, 128, (128, 0)),
        (1, 1500, 128, (1, 127)),
    ],
)
def test_composition_of_a_mini_batch(new: int, stored: int, batch: int, expected: Any) -> None:
    assert composition(new, stored, batch) == expected


def test_every_pass_shows_everything_once_in_another_order(make_experience: Any) -> None:
    """12 stored, 5 a step: 60 in 12 steps, five passes; the order of each is its own, and asking twice is the same."""
    buffer = filled(12, 30, make=make_experience)
    shown = [buffer.part(Clock(1, step=step), 5) for step in range(12)]
    assert all(len(batch) == 5 for batch in shown)
    numbers = torch.cat([batch.raw[:, 1] for batch in shown]).view(5, 12)
    assert all(len(set(row.tolist())) == 12 for row in numbers)
    assert len({tuple(row.tolist()) for row in numbers}) == 5
    assert torch.equal(buffer.part(Clock(1, step=3), 5).raw, shown[3].raw)
    assert all(torch.equal(batch.raw[:, 0].long(), batch.y) for batch in shown)


def test_nothing_stored_and_nothing_wanted(make_experience: Any) -> None:
    assert len(LatentReplay(5, 0).part(Clock(), 3)) == 0
    assert len(filled(12, 30, make=make_experience).part(Clock(), 0)) == 0


def test_it_goes_on_where_it_was(check_same_future: Any) -> None:
    check_same_future(lambda: LatentReplay(7, seed=3))
