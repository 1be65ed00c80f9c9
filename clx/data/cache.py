"""Decoded data sets kept as memory-mapped arrays, so that the next start and other processes read them at once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from clx.data.dataset import Arrays

FORMAT = 1  # raise it when what is stored changes
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
    tensors = [parts[0].x, parts[0].y, parts[1].x, parts[1].y]
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
    return parts
