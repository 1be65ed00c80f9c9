"""How stored inputs reach the device batch by batch: kept there where they fit, else fetched ahead of the training."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from clx.types import Storage

SHARE = 4  # a storage is kept on a GPU where it takes at most one part in so many of what is free there
AHEAD = 2  # batches
Item = TypeVar("Item")


def supply(data: Storage, rows: Tensor, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """The inputs [B, ...] at the rows [N], batch_size of them at a time and in order, on the device.

    From memory to the CPU they are read as they are asked for; on a GPU likewise, where all inputs can be kept on it.
    Otherwise, and out of files, a thread of their own gets them while the batches before are used.
    """
    kept = resident(data, device)
    if kept is not None:
        return (kept.index_select(0, part) for part in split(rows.to(device), batch_size))
    read = (data.index_select(0, part) for part in split(rows.to(data.device), batch_size))
    if device.type == "cuda":
        return copied(read, device)
    if isinstance(data, Tensor):  # on a GPU
        return (tensor.to(device) for tensor in read)
    return ahead(read, AHEAD)


def split(tensor: Tensor, size: int) -> Iterator[Tensor]:
    """Its parts of that size, as torch's own split gives them, but not those of a long pass all at once."""
    for stretch in tensor.split(size * 1024):
        yield from stretch.split(size)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a GPU, those included that torch has reserved and does not use."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


_kept: dict[tuple[int, str], Tensor | None] = {}


def resident(data: Storage, device: torch.device, free: Callable[[torch.device], int] = free_memory) -> Tensor | None:
    """The storage on the device; None where it lies in files, or would take more than a quarter of what is free().

    Decided, and copied, once for each storage and device, and kept for as long as the storage lives: all sets that
    share it share the copy. Nothing is copied from a GPU to the CPU.
    """
    if not isinstance(data, Tensor):
        return None
    if data.device.type == device.type and device.index in (None, data.device.index):
        return data
    if device.type == "cpu":
        return None
    key = id(data), str(device)
    if key not in _kept:
        _kept[key] = data.to(device) if data.nbytes * SHARE <= free(device) else None
        weakref.finalize(data, _kept.pop, key, None)
    return _kept[key]


def copied(read: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The tensors on a GPU, brought there through pinned memory by a stream beside the one that computes."""
    beside = torch.cuda.Stream(device)

    def send() -> Iterator[tuple[Tensor, torch.cuda.Event]]:
        for tensor in read:
            with torch.cuda.stream(beside):
                sent = tensor.pin_memory().to(device, non_blocking=True), beside.record_event()
            yield sent

    for tensor, arrived in ahead(send(), AHEAD):
        computing = torch.cuda.current_stream(device)
        computing.wait_event(arrived)
        tensor.record_stream(computing)  # its memory is not given to the next copy before it has been used
        yield tensor


def ahead(source: Iterable[Item], count: int) -> Iterator[Item]:
    """The items in order, made by a thread of their own, up to count of them before they are asked for.

    What the source raises is raised where its item would have come. The thread ends with the iteration, also where
    that is given up early.
    """
    items, end = iter(source), object()
    with ThreadPoolExecutor(1, "clx-ahead") as thread:
        waiting = deque(thread.submit(next, items, end) for _ in range(count))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, items, end))
                yield item  # type: ignore[misc]
        finally:
            for future in waiting:
                future.cancel()
