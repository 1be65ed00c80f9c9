"""CORe50's images, in a tiny tree of the published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clx.data import core50
from clx.data.core50 import CORe50, room
from clx.data.dataset import DamagedData, MissingData


def tree(
    root: Path, sessions: tuple[int, ...] = (1, 2, 3), objects: tuple[int, ...] = (1, 2, 6), frames: int = 2
) -> Path:
    """root/core50/core50_128x128/s1/o1/C_01_01_000.png, ...: pixels (session, object, frame) in the three channels."""
    home = root / "core50"
    for s in sessions:
        for o in objects:
            folder = home / "core50_128x128" / f"s{s}" / f"o{o}"
            folder.mkdir(parents=True)
            for frame in range(frames):
                pixels = np.broadcast_to(np.array([s, o, frame], np.uint8), (128, 128, 3))
                Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"C_{s:02d}_{o:02d}_{frame:03d}.png")
    return home


def test_every_image_is_in_its_part_with_its_class(tmp_path: Path) -> None:
    """Sessions 1, 2 and 11 train; 3 tests. Objects 1, 2 and 6 are classes 0, 1 and 5, of categories 0, 0 and 1."""
    tree(tmp_path, (1, 2, 3, 11))
    train, test = CORe50().load(tmp_path)
    assert train.x.shape == (3 * 3 * 2, 3, 128, 128)
    assert test.x.shape == (3 * 2, 3, 128, 128)
    assert train.x[:, 0, 0, 0].tolist() == [1] * 6 + [2] * 6 + [11] * 6  # by number, not by name
    assert torch.equal(train.x[:, 1, 5, 5].long() - 1, train.y)
    assert test.y.tolist() == [0, 0, 1, 1, 5, 5]
    coarse, _ = CORe50(categories=True).load(tmp_path)
    assert torch.equal(coarse.y, train.y // 5)
    names = CORe50().paths(tmp_path, train=False)
    assert names[0] == "s3/o1/C_03_01_000.png"
    assert len(names) == len(test.y)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"core50/core50_128x128"):
        CORe50().load(tmp_path)
    (tmp_path / "core50_128x128").mkdir()
    with pytest.raises(MissingData, match=r"has no folders s1/o1"):
        CORe50().load(tmp_path)


def test_a_damaged_image(tmp_path: Path) -> None:
    path = tree(tmp_path) / "core50_128x128" / "s1" / "o2" / "C_01_02_001.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DamagedData, match=r"C_01_02_001\.png: not a whole image"):
        CORe50().load(tmp_path)
    Image.new("RGB", (64, 32)).save(path)
    with pytest.raises(DamagedData, match=r"an image of 64x32, expected 128x128"):
        CORe50().load(tmp_path)


def test_a_chunk_that_no_png_has(tmp_path: Path) -> None:
    """Pillow raises SyntaxError, not OSError, where the pixels' chunk says 20 bytes and goes on instead of ending."""
    path = tree(tmp_path) / "core50_128x128" / "s1" / "o1" / "C_01_01_000.png"
    content = path.read_bytes()
    pixels = content.index(b"IDAT")
    path.write_bytes(content[: pixels - 4] + (20).to_bytes(4, "big") + content[pixels:])
    with pytest.raises(DamagedData, match=r"C_01_01_000\.png: not a whole image"):
        CORe50().load(tmp_path)


def test_images_are_decoded_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 GB need not fit into memory; nothing but the cache's own four files stays behind."""
    made: list[np.ndarray] = []
    monkeypatch.setattr(core50, "room", lambda *wanted: made.append(room(*wanted)) or made[-1])
    tree(tmp_path)
    train, _ = CORe50().load(tmp_path)
    assert [(type(x), x.shape) for x in made] == [(np.memmap, (12, 3, 128, 128)), (np.memmap, (6, 3, 128, 128))]
    assert len(list((tmp_path / "cache").iterdir())) == 4
    assert train.x[:, 1, 0, 0].tolist() == [1, 1, 2, 2, 6, 6] * 2


def test_where_nothing_can_be_written_memory_will_do(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    tree(tmp_path)
    assert not isinstance(room((2, 3), tmp_path / "cache"), np.memmap)
    assert CORe50().load(tmp_path)[1].x[:, 1, 0, 0].tolist() == [1, 1, 2, 2, 6, 6]


def test_a_folder_of_another_name(tmp_path: Path) -> None:
    (tree(tmp_path) / "core50_128x128" / "sX" / "o1").mkdir(parents=True)
    with pytest.raises(DamagedData, match=r"sX: no session"):
        CORe50().load(tmp_path)
