"""Decoded data sets kept as memory-mapped arrays, so that the next start and other processes read them at once."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from clx.data.dataset import Arrays

FORMAT = 1  # raise it when what is stored changes
Item = TypeVar("Item")
_loaded: dict[tuple[object, ...], tuple[Arrays, Arrays]] = {}


def cached(
    name: str, files: list[Path], read: Callable[[], tuple[Arrays, Arrays]], root: Path
) -> tuple[Arrays, Arrays]:
    """read(), or what it gave before for the same files (path, size and time of change decide).

    Kept in memory for this process and under root/cache for others; a cache that cannot be written is
    done without. name becomes the file's stem.
    """
    stats = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    key = (name, FORMAT, *stats)
    if key not in _loaded:
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8).hexdigest()
        folder = root / "cache"
        stem = folder / f"{name}-{digest}"
        _loaded[key] = _from_disk(stem) or _store(stem, read())
    return _loaded[key]


def _paths(stem: Path) -> list[Path]:
    return [stem.with_name(f"{stem.name}.{part}.npy") for part in ("train_x", "train_y", "test_x", "test_y")]


def _from_disk(stem: Path) -> tuple[Arrays, Arrays] | None:
    try:
        # Copy-on-write pages: shared between processes, and nobody can change the file through them.
        arrays = [torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False)) for path in _paths(stem)]
    except Exception:  # noqa: BLE001 - not there, or damaged: numpy raises whatever a broken header makes of it
        return None
    parts = Arrays(arrays[0], arrays[1]), Arrays(arrays[2], arrays[3])
    whole = all(part.y.dtype == torch.int64 and len(part.x) == len(part.y) for part in parts)
    return parts if whole else None


def _store(stem: Path, parts: tuple[Arrays, Arrays]) -> tuple[Arrays, Arrays]:
    tensors = [tensor for part in parts for tensor in part if isinstance(tensor, torch.Tensor)]
    with suppress(OSError):  # a full or read-only disk costs the cache, not the run
        stem.parent.mkdir(parents=True, exist_ok=True)
        for path, tensor in zip(_paths(stem), tensors, strict=True):
            temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
            try:
                with temporary.open("wb") as file:
                    np.save(file, tensor.numpy(), allow_pickle=False)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    return _from_disk(stem) or parts  # the one copy that all processes share, where it could be written


def room(shape: tuple[int, ...], folder: Path) -> np.ndarray:
    """An array of bytes in a file of that folder, which goes with it; in memory where none can be had."""
    with suppress(OSError, AttributeError):  # no such folder, no room, or a system that cannot reserve it
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))  # a full disk shows here, not while writing
            return np.memmap(file, np.uint8, "r+", shape=shape)
    return np.empty(shape, np.uint8)


def shown(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar on a terminal: decoding takes minutes, this once."""
    console = Console(stderr=True)
    yield from track(items, what, total, console=console, transient=True, disable=not sys.stderr.isatty())
