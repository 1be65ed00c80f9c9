"""Generators that depend on their key alone, and the global generators' state."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from clx.runtime.seed import derive, generator, load_state, seed_everything, state


def draws() -> list[float]:
    """One number of each global generator; an odd count of normals leaves the second of a pair cached."""
    return [torch.rand(()).item(), np.random.random(), np.random.normal(), random.random(), random.gauss(0, 1)]  # noqa: NPY002


def test_derive_is_the_same_on_every_machine() -> None:
    """`printf "(7, 'x')" | b2sum -l 64` prints bb4db2ec0c1db322; its last bit is dropped."""
    assert derive(7, "x") == 0xBB4DB2EC0C1DB322 >> 1


@pytest.mark.parametrize(
    ("one", "other"), [((1, 2), (2, 1)), ((1, 2), (12,)), ((1,), ("1",)), ((1,), (1, 0)), ((0,), (0, None))]
)
def test_derive_depends_on_every_part(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert derive(*one) == derive(*one)
    assert derive(*one) != derive(*other)


def test_derive_is_a_seed_for_torch() -> None:
    assert all(0 <= derive(i) < 2**63 for i in range(100))


def test_generator_replays_and_leaves_the_global_one_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, again, other = (torch.randperm(100, generator=generator("order", key)) for key in (4, 4, 5))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5])
def test_seed_everything(seed: int) -> None:
    seed_everything(seed)
    first = draws()
    assert draws() != first
    seed_everything(seed)
    assert draws() == first


def test_seeds_differ() -> None:
    seed_everything(0)
    first = draws()
    seed_everything(1)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_state_goes_on_where_it_was_taken() -> None:
    """Also with a normal of numpy's and of Python's pair still to come."""
    seed_everything(3)
    draws()
    taken = state()
    assert all(isinstance(value, torch.Tensor) for value in taken.values())
    expected = [draws() for _ in range(3)]
    seed_everything(8)
    load_state(taken)
    assert [draws() for _ in range(3)] == expected


def test_state_without_a_cached_normal() -> None:
    seed_everything(3)
    taken = state()
    expected = draws()
    draws()
    load_state(taken)
    assert draws() == expected
