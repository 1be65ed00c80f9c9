"""The data set inside the package."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from clx.data.dataset import Arrays
from clx.data.digits import FILE, Digits

# Images of each class in the source (its description in the UCI repository, test part).
COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.fixture(scope="module")
def parts() -> tuple[Arrays, Arrays]:
    return Digits().load(Path("nowhere"))


@pytest.fixture(scope="module")
def lines() -> list[list[int]]:
    """64 pixels in 0..16 and the class, of every image in the file."""
    with gzip.open(FILE, "rt") as file:
        return [[int(float(value)) for value in line.split(",")] for line in file]


def test_sizes(parts: tuple[Arrays, Arrays]) -> None:
    """Four fifths of each class, rounded down, are for training: 142 of 178, 145 of 182, ... 1,433 of 1,797 in all."""
    train, test = parts
    assert train.y.bincount().tolist() == [count * 4 // 5 for count in COUNTS]
    assert test.y.bincount().tolist() == [count - count * 4 // 5 for count in COUNTS]
    assert (len(train.y), len(test.y)) == (1433, 364)
    for part in parts:
        assert part.x.shape == (len(part.y), 1, 8, 8)
        assert (part.x.dtype, part.y.dtype) == (torch.uint8, torch.int64)


def test_every_line_of_the_file_is_in_one_part(parts: tuple[Arrays, Arrays], lines: list[list[int]]) -> None:
    """Line by line: the next of its class in the training part, or, once that is used up, in the test part.

    Pixels are stored as round(255 / 16 * p): 0 -> 0, 1 -> 15.94 -> 16, 8 -> 127.5 -> 128, 16 -> 255.
    """
    x, y = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    waiting = {c: (y == c).nonzero().flatten().tolist() for c in range(10)}  # training rows first
    place = [waiting[label].pop(0) for *_, label in lines]
    assert sorted(place) == list(range(1797))
    for of_part in ([i for i in place if i < 1433], [i for i in place if i >= 1433]):
        assert of_part == sorted(of_part)  # file order within each part
    assert x[place].flatten(1).tolist() == [[round(p * 255 / 16) for p in pixels] for *pixels, _ in lines]


def test_mean_and_deviation(parts: tuple[Arrays, Arrays]) -> None:
    """Of the stored training images in [0, 1]; tolerance: the four digits of the class."""
    x = parts[0].x.double() / 255
    assert x.mean().item() == pytest.approx(Digits.mean[0], abs=5e-5)
    assert x.std().item() == pytest.approx(Digits.std[0], abs=5e-5)
