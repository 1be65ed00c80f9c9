"""Inputs on their way to the device: kept there or fetched ahead, in order, with nothing left behind."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from clx.data import supply as module
from clx.data.supply import ahead, resident, split, supply

CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")  # meta: tensors without content, as a GPU's without a GPU
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


class Far:
    """Storage of the inputs 0, 10, 20, ... that tells which thread read them."""

    dtype, device = torch.uint8, CPU

    def __init__(self, count: int) -> None:
        self.shape, self.threads = torch.Size((count, 1)), []

    def __len__(self) -> int:
        return self.shape[0]

    def index_select(self, dim: int, index: Tensor, /) -> Tensor:
        self.threads.append(threading.current_thread().name)
        return (10 * index).to(torch.uint8).view(-1, 1)


def helpers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("clx-ahead")]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("length", [0, 1, 7])
def test_ahead_keeps_the_order_and_ends_its_thread(length: int, count: int) -> None:
    assert list(ahead(iter(range(length)), count)) == list(range(length))
    assert helpers() == []


def test_ahead_is_never_further_ahead_than_it_may() -> None:
    """With the first item in hand the next two are made, and no third; with the second, one more."""
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(9):
            made.append(number)
            yield number

    items = ahead(source(), 2)
    for held in range(4):
        assert next(items) == held
        deadline = time.monotonic() + 10
        while len(made) < held + 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)  # time enough for one too many
        assert made == list(range(held + 3))
    items.close()


def test_ahead_hands_on_what_goes_wrong_where_it_does() -> None:
    def source() -> Iterator[int]:
        yield 0
        yield 1
        raise OSError("the disk is gone")

    items = ahead(source(), 3)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)
    assert helpers() == []


@pytest.mark.parametrize("how", ["close", "drop", "raise"])
def test_ahead_given_up_early_leaves_no_thread(how: str) -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    def use() -> None:
        for _ in ahead(source(), 2):
            if how == "raise":
                raise KeyError
            if how == "drop":
                break

    if how == "close":
        items = ahead(source(), 2)
        next(items)
        items.close()
    elif how == "raise":
        with pytest.raises(KeyError):
            use()
    else:
        use()
    gc.collect()
    assert helpers() == []
    assert len(made) <= 3


@pytest.mark.parametrize(("length", "size"), [(0, 3), (7, 3), (6, 3), (2500, 1), (2049, 2)])
def test_split_is_torchs_own(length: int, size: int) -> None:
    tensor = torch.arange(length)
    ours, theirs = list(split(tensor, size)), tensor.split(size)
    assert len(ours) == len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("free", "fits"), [(400, True), (399, False)])
def test_a_storage_is_kept_where_it_takes_a_quarter_of_what_is_free(free: int, fits: bool) -> None:
    """100 bytes fit into 400."""
    data = torch.zeros(100, dtype=torch.uint8)
    kept = resident(data, ELSEWHERE, lambda device: free)
    assert (kept is not None) == fits
    if kept is not None:
        assert (kept.device, kept.shape) == (ELSEWHERE, data.shape)


def test_it_is_decided_and_copied_once_and_goes_with_the_storage() -> None:
    asked = []

    def free(device: torch.device) -> int:
        asked.append(device)
        return 1000 if len(asked) == 1 else 0

    before = len(module._kept)
    data = torch.zeros(100, dtype=torch.uint8)
    kept = resident(data, ELSEWHERE, free)
    assert kept is not None
    assert resident(data, ELSEWHERE, free) is kept
    too_large = torch.zeros(100, dtype=torch.uint8)
    assert resident(too_large, ELSEWHERE, free) is None
    assert resident(too_large, ELSEWHERE, lambda device: 1000) is None  # as it was decided
    assert asked == [ELSEWHERE, ELSEWHERE]
    del data, too_large
    assert len(module._kept) == before


def test_what_lies_there_already_is_not_asked_about() -> None:
    data = torch.zeros(3)
    assert resident(data, CPU) is data
    assert resident(Far(3), ELSEWHERE) is None


@pytest.mark.parametrize("data", [torch.arange(6, dtype=torch.uint8).mul(10).view(-1, 1), Far(6)], ids=["near", "far"])
def test_supply_reads_rows_in_order(data: Tensor | Far) -> None:
    parts = list(supply(data, torch.tensor([5, 0, 3, 3, 1]), 2, CPU))
    assert [part.flatten().tolist() for part in parts] == [[50, 0], [30, 30], [10]]
    if isinstance(data, Far):
        assert all(name.startswith("clx-ahead") for name in data.threads)
    assert helpers() == []


@GPU
@pytest.mark.parametrize("free", [0, 10**9])
def test_on_a_gpu(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, kept there or copied beside; many batches, so that memory is used again."""
    monkeypatch.setattr(module, "resident", lambda data, device: resident(data, device, lambda _: free))
    data = torch.randint(0, 256, (4000, 3, 16, 16), dtype=torch.uint8)
    order = torch.randperm(len(data))
    there = list(supply(data, order, 64, torch.device("cuda")))
    assert all(part.is_cuda for part in there)
    assert torch.equal(torch.cat(there).cpu(), data[order])
