"""MNIST and Fashion-MNIST from their IDX files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from clx.data.cache import cached
from clx.data.dataset import Arrays, DamagedData, DataSet, MissingData, check_arrays

PARTS = {"train": 60_000, "t10k": 10_000}
UNSIGNED_BYTES = 0x08  # the IDX format's code for its element type

# Folders below data_root that other tools leave the files in, and Debian's package.
FOLDERS = {
    "mnist": ["MNIST/raw", "mnist", "."],
    "fashion_mnist": ["FashionMNIST/raw", "fashion_mnist", "fashion-mnist", "."],
}
SYSTEM = {"mnist": [], "fashion_mnist": [Path("/usr/share/datasets/fashion-mnist")]}
# The published training labels begin so; loose files in data_root do not say which set they are.
FIRST_LABELS = {"mnist": [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], "fashion_mnist": [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]}
STATISTICS = {"mnist": (0.1307, 0.3081), "fashion_mnist": (0.2860, 0.3530)}


class MNIST(DataSet):
    """70,000 grey images of 28x28 in 10 classes: digits (LeCun et al. 1998) or, with name=fashion_mnist, clothes
    (Xiao et al. 2017, arXiv:1708.07747)."""

    shape = (1, 28, 28)
    num_classes = 10

    def __init__(self, name: Literal["mnist", "fashion_mnist"] = "mnist") -> None:
        if name not in STATISTICS:
            raise ValueError(f"name {name!r} is not one of {', '.join(STATISTICS)}")
        self.name: str = name
        mean, std = STATISTICS[name]
        self.mean, self.std = (mean,), (std,)

    def places(self, root: Path) -> list[Path]:
        return [*(root / folder for folder in FOLDERS[self.name]), *SYSTEM[self.name]]

    def files(self, root: Path) -> list[Path]:
        stems = [f"{part}-{kind}" for part in PARTS for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
        for folder in self.places(root):
            found = [_either(folder, stem) for stem in stems]
            if all(found):
                return [path for path in found if path]
            if any(found):
                missing = [stem for stem, path in zip(stems, found, strict=True) if not path]
                raise MissingData(f"{folder} lacks {', '.join(missing)} (.gz or not); put all four files there")
        looked = ", ".join(str(folder) for folder in self.places(root))
        package = "install Debian's package dataset-fashion-mnist" if SYSTEM[self.name] else f"copy them to {root}"
        raise MissingData(
            f"the IDX files of {self.name} are in none of: {looked}\n"
            f"get them with `clx data fetch {self.name}`, or {package}, or point data_root at their folder"
        )

    def load(self, root: Path) -> tuple[Arrays, Arrays]:
        files = self.files(root)
        return cached(self.name, files, lambda: (self._part(*files[:2]), self._part(*files[2:])), root)

    def _part(self, images: Path, labels: Path) -> Arrays:
        x, y = read_idx(images, 3), read_idx(labels, 1)
        for other, first in FIRST_LABELS.items():
            if other != self.name and len(y) == PARTS["train"] and y[:10].tolist() == first:
                raise DamagedData(f"{labels}: these are the labels of {other}, expected those of {self.name}")
        return check_arrays(f"{images} and {labels.name}", Arrays(x.unsqueeze(1), y), self.shape, self.num_classes)

    def fetch(self, root: Path) -> None:
        from clx.runtime.torchvision import torchvision  # noqa: PLC0415 - a second of import that only a download needs

        source = {"mnist": torchvision.datasets.MNIST, "fashion_mnist": torchvision.datasets.FashionMNIST}[self.name]
        try:
            source(str(root), download=True)
        except RuntimeError as error:  # torchvision's word for "no mirror answered"
            raise OSError(str(error)) from error


def _either(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


def read_idx(path: Path, dimensions: int) -> torch.Tensor:
    """An IDX file of unsigned bytes as a uint8 tensor with that many dimensions.

    Raises DamagedData with the file, what was found and what was expected.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DamagedData(f"{path}: not a whole gzip file ({error}); expected an IDX file; get it again") from None
    header = 4 + 4 * dimensions
    expected = bytes([0, 0, UNSIGNED_BYTES, dimensions])
    if len(content) < header or content[:4] != expected:
        found = content[:4].hex() or "nothing"
        raise DamagedData(f"{path}: starts with {found}, expected {expected.hex()} (IDX, {dimensions} dimensions)")
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    if len(content) - header != math.prod(shape):
        raise DamagedData(
            f"{path}: {len(content) - header} bytes of data, expected {math.prod(shape)} for shape {tuple(shape)}; "
            "the file is cut short or too long; get it again"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
