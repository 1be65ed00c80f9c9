"""What the cache on disk gives back, and when it reads anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from clx.data import cache
from clx.data.cache import cached
from clx.data.dataset import Arrays


class Source:
    """A file whose first byte fills both parts; counts how often it is read."""

    def __init__(self, path: Path) -> None:
        self.path, self.reads = path, 0
        path.write_bytes(b"\x05")

    def __call__(self) -> tuple[Arrays, Arrays]:
        self.reads += 1
        value = self.path.read_bytes()[0]
        parts = [
            Arrays(torch.full((n, 1, 2, 2), value + n, dtype=torch.uint8), torch.arange(n) + value) for n in (3, 2)
        ]
        return parts[0], parts[1]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "source")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, source: Source, tmp_path: Path) -> Callable[..., tuple[Arrays, Arrays]]:
    """cached() as another process would call it, with nothing in memory."""

    def fresh(root: Path = tmp_path) -> tuple[Arrays, Arrays]:
        monkeypatch.setattr(cache, "_loaded", {})
        return cached("name", [source.path], source, root)

    return fresh


def check(parts: tuple[Arrays, Arrays], value: int) -> None:
    """3 training samples filled with value + 3, 2 test samples filled with value + 2; y counts from value."""
    for (x, y), count in zip(parts, (3, 2), strict=True):
        assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
        assert torch.equal(x, torch.full((count, 1, 2, 2), value + count, dtype=torch.uint8))
        assert y.tolist() == list(range(value, value + count))


def test_the_second_load_comes_from_disk(source: Source, load: Callable[..., tuple[Arrays, Arrays]]) -> None:
    check(load(), 5)
    check(load(), 5)
    assert source.reads == 1


def test_a_process_reads_once(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_loaded", {})
    first, again = (cached("name", [source.path], source, tmp_path) for _ in range(2))
    assert first[0].x is again[0].x
    assert source.reads == 1


def test_names_do_not_mix(source: Source, tmp_path: Path, load: Callable[..., tuple[Arrays, Arrays]]) -> None:
    load()
    cached("other", [source.path], source, tmp_path)
    assert source.reads == 2


@pytest.mark.parametrize("part", ["train_x", "train_y", "test_x", "test_y"])
@pytest.mark.parametrize("damage", ["lost", "empty", "garbage", "cut", "header"])
def test_a_damaged_cache_is_rebuilt(
    source: Source, load: Callable[..., tuple[Arrays, Arrays]], tmp_path: Path, part: str, damage: str
) -> None:
    load()
    (path,) = (tmp_path / "cache").glob(f"name-*.{part}.npy")
    content = path.read_bytes()
    if damage == "lost":
        path.unlink()
    else:
        header = content.replace(b"}", b" ", 1)  # the description of the array never ends
        path.write_bytes({"empty": b"", "garbage": b"garbage", "cut": content[:-1], "header": header}[damage])
    check(load(), 5)
    assert source.reads == 2
    assert path.read_bytes() == content
    check(load(), 5)
    assert source.reads == 2


@pytest.mark.parametrize(("content", "later"), [(b"\x07\x00", 0), (b"\x07", 1_000_000_000)])
def test_a_changed_source_is_read_again(
    source: Source, load: Callable[..., tuple[Arrays, Arrays]], content: bytes, later: int
) -> None:
    """Another size at the same time, and the same size a second later (in ns)."""
    load()
    before = source.path.stat()
    source.path.write_bytes(content)
    os.utime(source.path, ns=(before.st_atime_ns, before.st_mtime_ns + later))
    check(load(), 7)
    assert source.reads == 2


def test_a_changed_source_is_read_again_by_the_same_process(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_loaded", {})
    check(cached("name", [source.path], source, tmp_path), 5)
    source.path.write_bytes(b"\x07\x00")
    check(cached("name", [source.path], source, tmp_path), 7)


def test_a_root_that_cannot_be_written(source: Source, load: Callable[..., tuple[Arrays, Arrays]]) -> None:
    """No folder can be made below a regular file."""
    check(load(source.path / "below"), 5)
    check(load(source.path / "below"), 5)
    assert source.reads == 2


def test_a_full_disk_leaves_nothing_behind(
    source: Source, load: Callable[..., tuple[Arrays, Arrays]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    check(load(), 5)
    assert list((tmp_path / "cache").iterdir()) == []


def test_changes_in_memory_stay_out_of_the_cache(load: Callable[..., tuple[Arrays, Arrays]]) -> None:
    load()
    from_disk = load()
    from_disk[0].x.fill_(0)
    check(load(), 5)


def test_who_has_read_shares_what_was_written(load: Callable[..., tuple[Arrays, Arrays]], tmp_path: Path) -> None:
    """Not a copy of its own: the pages of the file, as the processes after it have them; so a change there shows."""
    x = load()[0].x
    (path,) = (tmp_path / "cache").glob("*.train_x.npy")
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)  # the last value of the last image
        file.write(b"\x09")
    assert x.flatten().tolist()[-1] == 9
