"""What every data set is: facts known without reading it, and a load() that reads it once."""

from __future__ import annotations

import hashlib
import weakref
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from clx.types import Storage


class MissingData(FileNotFoundError):
    """The files of a data set are not there; the message says where they were looked for and how to get them."""


class DamagedData(ValueError):
    """A file of a data set is not what it should be; the message names it and what was expected."""


class Arrays(NamedTuple):
    """One part of a data set: x [N, C, H, W] uint8 (or [N, ...] float32), y [N] int64 classes of the data set.

    x is a tensor, or where the inputs lie in files a storage that reads those asked for.
    """

    x: Storage
    y: Tensor


class DataSet(ABC):
    """A labelled data set. Facts that need no reading: name, shape (C, H, W), num_classes, mean and std of each
    channel in [0, 1] for the normalisation of inputs."""

    name: str
    shape: tuple[int, ...]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: tuple[str, ...] = ()  # of training images, as the field does with this set

    def find(self, root: Path) -> None:  # noqa: B027 - most know all without a look
        """Look at root for facts that only the files know, before anything asks for them. Raises ValueError, with the
        key, where they cannot be found."""

    def places(self, root: Path) -> list[Path]:
        """The folders that are looked in, first to last; none for data that needs no files."""
        return []

    def files(self, root: Path) -> list[Path]:
        """The files that load() would read. Raises MissingData."""
        return []

    @abstractmethod
    def load(self, root: Path) -> tuple[Arrays, Arrays]:
        """Training and test part. Raises MissingData and DamagedData."""

    def check(self, root: Path) -> tuple[int, int]:
        """Read everything that there is: how many samples for training and for testing. Raises as load() does."""
        train, test = self.load(root)
        return len(train.y), len(test.y)

    def fetch(self, root: Path) -> None:
        """Download the files to root. Raises OSError where it cannot."""
        raise ValueError(f"{self.name} cannot be downloaded; put its files under {root}")


def check_arrays(name: str, part: Arrays, shape: tuple[int, ...], num_classes: int) -> Arrays:
    """The part as it came, or DamagedData where its shape or classes are not those of the data set."""
    if tuple(part.x.shape[1:]) != shape or len(part.x) != len(part.y):
        raise DamagedData(
            f"{name}: found {len(part.x)} inputs of shape {tuple(part.x.shape[1:])} with {len(part.y)} classes; "
            f"expected shape {shape} and as many classes as inputs"
        )
    if len(part.y) and not 0 <= int(part.y.min()) <= int(part.y.max()) < num_classes:
        worst = int(part.y.max()) if int(part.y.max()) >= num_classes else int(part.y.min())
        raise DamagedData(f"{name}: class {worst} is outside 0..{num_classes - 1}; expected {num_classes} classes")
    assert isinstance(part.x, Tensor)
    return Arrays(part.x.contiguous(), part.y.to(torch.int64))


def digest(part: Arrays) -> str:
    """Sixteen characters that stand for every sample and class of a part; for one that lies in files, what the data
    set says stands for them. Kept while its inputs live: the runs of one process share them."""
    key = id(part.x), id(part.y)
    if key not in _digests:
        found = hashlib.blake2b(digest_size=8)
        for tensor in part:
            assert isinstance(tensor, Tensor), "who gives a storage says what stands for it"
            found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
        known_digest(part, found.hexdigest())
    return _digests[key]


def known_digest(part: Arrays, text: str) -> None:
    """Say what stands for a part, so that it need not be read for that."""
    key = id(part.x), id(part.y)
    if key not in _digests:
        weakref.finalize(part.x, _digests.pop, key, None)
        _digests[key] = text


_digests: dict[tuple[int, int], str] = {}
