"""Decoding image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clx.data.dataset import DamagedData
from clx.data.image_files import FORMATS, ImageFiles, decode
from clx.runtime.torchvision import torchvision


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_an_image_of_that_size_stays_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    found = decode(save(tmp_path / "a.png", pixels), 5)
    assert found.dtype == np.uint8
    assert np.array_equal(found, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize(("shape", "rows", "columns"), [((4, 10), (0, 4), (3, 7)), ((9, 4), (3, 7), (0, 4))])
def test_the_middle_of_the_longer_side(
    tmp_path: Path, shape: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    """Width 10 to 4: three columns off each side. Height 9 to 4: 2.5 rows off each side, so two rows make one."""
    height, width = shape
    pixels = np.broadcast_to(10 * np.arange(height)[:, None, None] + np.arange(width)[None, :, None], (*shape, 3))
    found = decode(save(tmp_path / "a.png", pixels.astype(np.uint8)), 4)
    if height == 4:
        assert np.array_equal(found[0], pixels[slice(*rows), slice(*columns), 0])
    else:  # rows 2.5 to 6.5, each the mean of two: 10 * (r + 0.5), the first and last one sided
        assert np.abs(found[0].astype(int) - (10 * np.arange(2.5, 6.5)[:, None] + np.arange(4))).max() <= 3


def test_it_is_what_torchvision_makes_of_it(tmp_path: Path) -> None:
    """Resize(16) and CenterCrop(16), exactly for a square image.

    Of 64x48, torchvision crops 21 rows from row 2 on, we 21.3 from 2.7 on: 0.7 rows of 3 pixels of 3 grey levels off.
    """
    transforms = torchvision.transforms
    both = transforms.Compose([transforms.Resize(16), transforms.CenterCrop(16), transforms.PILToTensor()])
    y, x = np.mgrid[:64, :48]
    smooth = np.stack((3 * y, 5 * x, 2 * (x + y)), 2).clip(0, 255).astype(np.uint8)
    for pixels, off in ((smooth, 7), (smooth[:48], 0)):
        path = save(tmp_path / "a.png", pixels)
        ours, theirs = torch.from_numpy(decode(path, 16).copy()), both(Image.open(path))
        assert (ours.int() - theirs.int()).abs().max() <= off


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format(tmp_path: Path, suffix: str) -> None:
    """One grey, which no compression changes by more than a little."""
    Image.new("L" if suffix == ".pgm" else "RGB", (6, 4), 90 if suffix == ".pgm" else (90, 90, 90)).save(
        tmp_path / f"a{suffix}"
    )
    found = decode(tmp_path / f"a{suffix}", 4)
    assert found.shape == (3, 4, 4)
    assert np.abs(found.astype(int) - 90).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK"])
def test_every_mode_becomes_three_channels(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode).save(path)
    assert np.array_equal(decode(path, 4), np.full((3, 4, 4), 255))


def test_what_is_no_image(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.zeros((30, 30, 3), np.uint8))
    for content in (b"", b"not an image", path.read_bytes()[:50]):
        path.write_bytes(content)
        with pytest.raises(DamagedData, match=r"a\.png: not a whole image"):
            decode(path, 4)
    with pytest.raises(DamagedData, match=r"b\.png: not a whole image"):
        decode(tmp_path / "b.png", 4)


def test_other_formats_are_not_looked_into(tmp_path: Path) -> None:
    """Pillow would start another program for PostScript, whatever the file is called."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n")
    with pytest.raises(DamagedData, match="not a whole image"):
        decode(tmp_path / "a.png", 4)


def test_sixteen_bits(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.full((4, 4), 3000, np.uint16))
    with pytest.raises(DamagedData, match=r"a\.png: an image of more than 8 bits a channel"):
        decode(path, 4)


def test_a_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than twice the limit, here of 40 pixels."""
    path = save(tmp_path / "a.png", np.zeros((9, 9, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(DamagedData, match=r"a\.png: not a whole image \(Image size \(81 pixels\) exceeds limit"):
        decode(path, 4)


@pytest.mark.parametrize("workers", [1, 3, None])
def test_rows_of_many_files(tmp_path: Path, workers: int | None) -> None:
    """File i is all i."""
    paths = [save(tmp_path / f"{i}.png", np.full((6, 6, 3), i, np.uint8)) for i in range(10)]
    images = ImageFiles(paths, 4, workers)
    assert (len(images), images.shape, images.dtype) == (10, (10, 3, 4, 4), torch.uint8)
    rows = torch.tensor([7, 0, 7, 3, 9])
    assert torch.equal(images.index_select(0, rows), rows.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4))
    assert images.index_select(0, rows[:0]).shape == (0, 3, 4, 4)
    paths[3].write_bytes(b"")
    with pytest.raises(DamagedData, match=r"3\.png"):
        images.index_select(0, rows)
    assert images.index_select(0, rows[:2]).shape == (2, 3, 4, 4)
