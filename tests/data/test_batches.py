"""Batches by index."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clx.data.batches import batches
from clx.types import Clock, Samples

CPU = torch.device("cpu")


def samples(count: int) -> Samples:
    """Input v, class v + 100, task label v + 200."""
    v = torch.arange(count)
    return Samples(v.to(torch.uint8).view(-1, 1), v + 100, v + 200)


def half(raw: Tensor) -> Tensor:
    return raw.float() / 2


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [(5, 2, [[0, 1], [2, 3], [4]]), (4, 2, [[0, 1], [2, 3]]), (3, 10, [[0, 1, 2]]), (2, 1, [[0], [1]])],
)
def test_as_they_lie(count: int, size: int, expected: list[list[int]]) -> None:
    assert [batch.x.flatten().tolist() for batch in batches(samples(count), size, torch.Tensor.float, CPU)] == expected


def test_in_order_with_everything_about_them() -> None:
    """x is the transformed raw; index says where in the samples each one was."""
    order = torch.tensor([3, 0, 4, 1, 2])
    parts = list(batches(samples(5), 3, half, CPU, order=order))
    assert [len(part) for part in parts] == [3, 2]
    for part, index in zip(parts, (order[:3], order[3:]), strict=True):
        assert part.raw is not None
        assert part.raw.dtype == torch.uint8
        assert torch.equal(part.raw.flatten(), index.to(torch.uint8))
        assert torch.equal(part.x.flatten(), index / 2)
        assert torch.equal(part.y, index + 100)
        assert torch.equal(part.t, index + 200)
        assert part.index is not None
        assert torch.equal(part.index, index)


def test_index_counts_within_a_view() -> None:
    """The view holds 4 and 2; its position 1 is 2, its position 0 is 4."""
    view = samples(5)[torch.tensor([4, 2])]
    (part,) = batches(view, 5, half, CPU, order=torch.tensor([1, 0]))
    assert part.x.flatten().tolist() == [1.0, 2.0]
    assert part.index is not None
    assert part.index.tolist() == [1, 0]
    assert torch.equal(view[part.index].raw, part.raw)


def test_an_order_may_leave_samples_out() -> None:
    parts = batches(samples(5), 2, half, CPU, order=torch.tensor([4, 4, 1]))
    assert [part.x.flatten().tolist() for part in parts] == [[2.0, 2.0], [0.5]]


def test_each_batch_has_its_step() -> None:
    """The pass starts at step 6 of 20."""
    start = Clock(experience=2, phase="balance", epoch=3, step=6, steps=20)
    clocks = [part.clock for part in batches(samples(5), 2, half, CPU, clock=start)]
    assert clocks == [Clock(2, "balance", 3, step, 20) for step in (6, 7, 8)]


def test_steps_count_from_0() -> None:
    assert [part.clock.step for part in batches(samples(3), 2, half, CPU)] == [0, 1]


def test_a_long_pass() -> None:
    """More batches than are looked up at once; each label still belongs to its input."""
    order = torch.randperm(250).repeat(10)
    parts = list(batches(samples(250), 1, half, CPU, order=order))
    assert len(parts) == 2500
    for name, offset in (("raw", 0), ("y", 100), ("t", 200), ("index", 0)):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]).flatten().long(), order + offset)


def test_what_a_batch_is_given_stays_its_own() -> None:
    """A change of one batch shows neither in the next one nor in the samples."""
    whole = samples(4)
    for batch in batches(whole, 2, half, CPU):
        assert batch.index is not None
        assert batch.raw is not None
        assert torch.equal(batch.y, batch.index + 100)
        assert torch.equal(batch.raw.flatten(), batch.index.to(torch.uint8))
        for tensor in (batch.raw, batch.y, batch.t, batch.index):
            tensor.fill_(7)
    assert whole.raw.flatten().tolist() == [0, 1, 2, 3]
    assert whole.y.tolist() == [100, 101, 102, 103]
