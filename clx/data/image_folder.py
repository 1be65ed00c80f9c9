"""A data set of one's own: image files in a folder for each class."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch

from clx.data.cache import cached, room, shown
from clx.data.dataset import Arrays, DamagedData, DataSet, MissingData, known_digest
from clx.data.image_files import CHANNELS, FORMATS, ImageFiles
from clx.types import Storage

Decode = Literal["auto", "cache", "lazy"]
COMFORTABLE = 2 * 2**30  # bytes of decoded images that auto keeps in the cache
CHUNK = 256  # images decoded at a time, where all of them are
_opened: weakref.WeakValueDictionary[tuple[object, ...], ImageFiles] = weakref.WeakValueDictionary()


class Part(NamedTuple):
    """Training or test part: its files in order, the class of each, and characters that stand for names and sizes."""

    paths: list[Path]
    y: list[int]
    digest: str


class ImageFolder(DataSet):
    """root/train/CLASS/* and root/test/CLASS/* (or root/val/CLASS/*, where there is no test): PNG, JPEG, BMP, GIF,
    PNM, TIFF or WebP. The classes are numbered by the names of their folders in train, sorted; hidden files and
    folders are left out.

    image_size: of every image is taken the middle square, brought to that side in pixels, as [3, side, side] bytes.
    mean, std: of the channels in [0, 1]; ImageNet's, as pretrained networks have it. decode: cache = all, once, into
    root/cache, which processes share; lazy = anew whenever one is used, while the batch before is trained on; auto =
    cache where that takes less than 2 GiB. workers: threads that decode, None = one for each core. Neither changes
    the images. A damaged file shows before training begins where all are decoded, else when its turn comes.
    """

    name = "image_folder"
    num_classes = 0  # until find()

    def __init__(
        self,
        image_size: int | None = None,
        *,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        decode: Decode = "auto",
        workers: int | None = None,
    ) -> None:
        for key, value in (("image_size", image_size), ("workers", workers)):
            if value is not None and value < 1:
                raise ValueError(f"{key} {value} < 1; give at least 1")
        for key, values in (("mean", mean), ("std", std)):
            if len(values) != CHANNELS:
                raise ValueError(f"{key} {list(values)}: give {CHANNELS} numbers, for red, green and blue")
        if min(std) <= 0:
            raise ValueError(f"std {list(std)}: each must be greater than 0")
        if decode not in get_args(Decode):
            raise ValueError(f"decode {decode!r} is not one of {', '.join(get_args(Decode))}")
        self.shape = (CHANNELS, image_size or 0, image_size or 0)
        self.mean, self.std = tuple(mean), tuple(std)
        self.size, self.decode, self.workers = image_size, decode, workers
        self.parts: tuple[Path, Part, Part] | None = None  # with the root that they are of

    def places(self, root: Path) -> list[Path]:
        return [root]

    def find(self, root: Path) -> None:
        try:
            self.num_classes = len(_classes(root))
        except MissingData as error:
            raise ValueError(f"root {error}") from error
        if self.size is None:
            raise ValueError("image_size null: image files have sizes of their own; give one side for all, 64 say")

    def files(self, root: Path) -> list[Path]:
        """Every image."""
        return [path for part in self._parts(root) for path in part.paths]

    def load(self, root: Path) -> tuple[Arrays, Arrays]:
        parts = self._parts(root)
        self.find(root)
        assert self.size is not None
        count = sum(len(part.paths) for part in parts)
        needed = count * CHANNELS * self.size**2
        if self.decode == "lazy" or (self.decode == "auto" and needed >= COMFORTABLE):
            stored: list[Storage] = [self._storage(part, self.size) for part in parts]
        else:
            stored = [arrays.x for arrays in self._cached(parts, root)]
        train, test = (Arrays(x, torch.tensor(part.y)) for x, part in zip(stored, parts, strict=True))
        for arrays, part in zip((train, test), parts, strict=True):
            known_digest(arrays, f"{self.size}-{part.digest}")
        return train, test

    def check(self, root: Path) -> tuple[int, int]:
        """Decode every image, to be sure that it can be done, and keep none."""
        parts = self._parts(root)
        for part in parts:
            images = ImageFiles(part.paths, 1, self.workers)
            for rows in shown(torch.arange(len(images)).split(CHUNK), "checking images"):
                images.index_select(0, rows)
        return len(parts[0].y), len(parts[1].y)

    def _parts(self, root: Path) -> tuple[Part, Part]:
        """Training and test part, listed once."""
        if self.parts is None or self.parts[0] != root:
            classes = _classes(root)
            names = [name for name in ("test", "val") if (root / name).is_dir()]
            if not names:
                raise MissingData(f"{root} has no folder test, nor val, with a folder of images for each class")
            unknown = sorted(set(_folders(root / names[0])) - set(classes))
            if unknown:
                raise DamagedData(f"{root / names[0] / unknown[0]}: train has no class of that name")
            self.parts = (root, _part(root / "train", classes), _part(root / names[0], classes))
        return self.parts[1:]

    def _storage(self, part: Part, size: int) -> ImageFiles:
        """One for all who use the same files in this process, so that they share its threads."""
        key = str(part.paths[:1]), part.digest, size, self.workers
        found = _opened.get(key)
        if found is None:
            found = _opened[key] = ImageFiles(part.paths, size, self.workers)
        return found

    def _cached(self, parts: tuple[Part, Part], root: Path) -> tuple[Arrays, Arrays]:
        def read() -> tuple[Arrays, Arrays]:
            return self._decoded(parts[0], root), self._decoded(parts[1], root)

        return cached(f"{self.name}-{self.size}", self.files(root), read, root)

    def _decoded(self, part: Part, root: Path) -> Arrays:
        assert self.size is not None
        images = self._storage(part, self.size)
        x = room(tuple(images.shape), root / "cache")
        for rows in shown(torch.arange(len(images)).split(CHUNK), f"decoding {len(images)} images, this once"):
            x[rows[0] : rows[-1] + 1] = images.index_select(0, rows).numpy()
        return Arrays(torch.from_numpy(x), torch.tensor(part.y))


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _classes(root: Path) -> list[str]:
    """The names of the classes, in order. Raises MissingData."""
    found = _folders(root / "train") if (root / "train").is_dir() else []
    if not found:
        raise MissingData(
            f"{root} has no folder train with a folder of images for each class; set benchmark.root to where train "
            "and test lie"
        )
    return found


def _part(folder: Path, classes: list[str]) -> Part:
    paths: list[Path] = []
    y: list[int] = []
    digest = hashlib.blake2b(digest_size=8)
    for label, name in enumerate(classes):
        inside = (folder / name).iterdir() if (folder / name).is_dir() else ()
        images = sorted(p for p in inside if p.suffix.lower() in FORMATS and not p.name.startswith("."))
        for path in images:
            digest.update(f"{name}/{path.name}\0{path.stat().st_size}\0".encode(errors="surrogateescape"))
        paths += images
        y += [label] * len(images)
    if not paths:
        raise MissingData(f"{folder} has no images: files of {', '.join(FORMATS)} in a folder for each class")
    return Part(paths, y, digest.hexdigest())
