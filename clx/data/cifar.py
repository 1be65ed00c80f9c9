"""CIFAR-10 and CIFAR-100 from their published files."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from clx.data.cache import cached
from clx.data.dataset import Arrays, DamagedData, DataSet, MissingData, check_arrays

PIXELS = 3 * 32 * 32
# name -> kind of files -> (folder, MD5 of the published archive <folder>.tar.gz, training files, test files)
Layout = tuple[str, str, str, list[str], list[str]]
FIVE = [f"data_batch_{number}" for number in range(1, 6)]
LAYOUTS: dict[str, list[Layout]] = {
    "cifar10": [
        ("binary", "cifar-10-batches-bin", "c32a1d4ab5d03f1284b67883e8d87530", [f"{n}.bin" for n in FIVE],
         ["test_batch.bin"]),
        ("pickle", "cifar-10-batches-py", "c58f30108f718f92721af3b95e74349a", FIVE, ["test_batch"]),
    ],
    "cifar100": [
        ("binary", "cifar-100-binary", "03b5dce01913d631647c71ecec9e9cb8", ["train.bin"], ["test.bin"]),
        ("pickle", "cifar-100-python", "eb9058c3a382ffc7106e4002c42a8d85", ["train"], ["test"]),
    ],
}  # fmt: skip
ARCHIVES = {
    "cifar-10-batches-bin": "cifar-10-binary.tar.gz",
    "cifar-10-batches-py": "cifar-10-python.tar.gz",
    "cifar-100-binary": "cifar-100-binary.tar.gz",
    "cifar-100-python": "cifar-100-python.tar.gz",
}
# Mean and deviation of the training images' channels, in [0, 1].
STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


class CIFAR(DataSet):
    """60,000 colour images of 32x32 in 10 classes or, with name=cifar100, 100. Krizhevsky 2009, "Learning Multiple
    Layers of Features from Tiny Images". The binary or the Python files, unpacked or in their archive."""

    shape = (3, 32, 32)
    augment = ("crop", "flip")

    def __init__(self, name: Literal["cifar10", "cifar100"] = "cifar10") -> None:
        if name not in LAYOUTS:
            raise ValueError(f"name {name!r} is not one of {', '.join(LAYOUTS)}")
        self.name: str = name
        self.num_classes = 10 if name == "cifar10" else 100
        self.mean, self.std = STATISTICS[name]

    def places(self, root: Path) -> list[Path]:
        return [root / folder for _, folder, *_ in LAYOUTS[self.name]] + [
            root / ARCHIVES[folder] for _, folder, *_ in LAYOUTS[self.name]
        ]

    def files(self, root: Path) -> list[Path]:
        lacking = ""
        for _, folder, _, train, test in LAYOUTS[self.name]:
            wanted = [root / folder / name for name in (*train, *test)]
            there = [path.is_file() for path in wanted]
            if all(there):
                return wanted
            if any(there):  # of no matter where another form is whole
                missing = [path.name for path, found in zip(wanted, there, strict=True) if not found]
                lacking = lacking or f"{root / folder} lacks {', '.join(missing)}; unpack the archive again"
        for _, folder, *_ in LAYOUTS[self.name]:
            if (root / ARCHIVES[folder]).is_file():
                return [root / ARCHIVES[folder]]
        if lacking:
            raise MissingData(lacking)
        looked = ", ".join(map(str, self.places(root)))
        raise MissingData(
            f"the files of {self.name} are in none of: {looked}\n"
            f"get them with `clx data fetch {self.name}`, or copy the archive to {root}"
        )

    def load(self, root: Path) -> tuple[Arrays, Arrays]:
        files = self.files(root)
        return cached(self.name, files, lambda: self._read(files), root)

    def _read(self, files: list[Path]) -> tuple[Arrays, Arrays]:
        for kind, folder, digest, train, test in LAYOUTS[self.name]:
            if files[0].name == ARCHIVES[folder]:
                contents = unpack(files[0], digest, [f"{folder}/{name}" for name in (*train, *test)])
            elif files[0].parent.name == folder:
                contents = {f"{folder}/{path.name}": path.read_bytes() for path in files}
            else:
                continue
            parts = [self._part(contents, folder, names, kind, files[0].parent) for names in (train, test)]
            return parts[0], parts[1]
        raise AssertionError(files)

    def _part(self, contents: dict[str, bytes], folder: str, names: list[str], kind: str, place: Path) -> Arrays:
        read: Callable[[bytes, str, bool], tuple[Any, Any]] = read_binary if kind == "binary" else read_pickle
        fine = self.num_classes == 100
        pairs = [read(contents[f"{folder}/{name}"], f"{place}: {name}", fine) for name in names]
        x = torch.from_numpy(np.concatenate([x for x, _ in pairs])).view(-1, *self.shape)
        y = torch.from_numpy(np.concatenate([y for _, y in pairs]).astype(np.int64))
        return check_arrays(f"{place}: {', '.join(names)}", Arrays(x, y), self.shape, self.num_classes)

    def fetch(self, root: Path) -> None:
        from clx.runtime.torchvision import torchvision  # noqa: PLC0415 - a second of import that only a download needs

        source = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[self.name]
        try:
            source(str(root), download=True)
        except RuntimeError as error:  # torchvision's word for a file that is not what it should be
            raise OSError(str(error)) from error


def unpack(archive: Path, digest: str, names: list[str]) -> dict[str, bytes]:
    """Those members of a .tar.gz, read in memory: nothing is written, wherever a member says that it belongs."""
    content = archive.read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != digest:
        raise DamagedData(f"{archive}: its MD5 is {found}, expected {digest}; get it again")
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            members = {name: tar.extractfile(name) for name in names}
            return {name: member.read() for name, member in members.items() if member is not None}
    except (tarfile.TarError, KeyError, EOFError, zlib.error) as error:
        raise DamagedData(f"{archive}: not a whole archive ({error}); get it again") from error


def read_binary(content: bytes, name: str, fine: bool) -> tuple[Any, Any]:
    """(images [N, 3072], classes [N]) of records of one label byte, or two (coarse, fine), and the pixels."""
    labels = 2 if fine else 1
    if not content or len(content) % (labels + PIXELS):
        raise DamagedData(f"{name}: {len(content)} bytes, expected a multiple of {labels + PIXELS}; get it again")
    records = np.frombuffer(content, np.uint8).reshape(-1, labels + PIXELS)
    return records[:, labels:].copy(), records[:, labels - 1].copy()


class _Unpickler(pickle.Unpickler):
    """Makes arrays, and nothing else: no other name in the file is looked up, so nothing in it is executed."""

    ALLOWED = ("_reconstruct", "ndarray", "dtype")

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".", maxsplit=1)[0] == "numpy" and name in self.ALLOWED:
            return {"_reconstruct": np.ndarray.__new__, "ndarray": np.ndarray, "dtype": np.dtype}[name]
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding: text.encode(encoding) if encoding == "latin1" else text.encode()
        raise DamagedData(f"it asks for {module}.{name}, which no file of CIFAR does")


def read_pickle(content: bytes, name: str, fine: bool) -> tuple[Any, Any]:
    """The same of a Python file: a dictionary with data [N, 3072] and labels, or fine_labels."""
    try:
        read = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        found = {key.decode() if isinstance(key, bytes) else key: value for key, value in read.items()}
        x, y = np.asarray(found["data"], np.uint8), np.asarray(found["fine_labels" if fine else "labels"], np.int64)
    except DamagedData as error:
        raise DamagedData(f"{name}: {error}; do not trust this file") from error
    except Exception as error:
        raise DamagedData(f"{name}: not one of the published Python files ({type(error).__name__})") from error
    if x.ndim != 2 or x.shape[1] != PIXELS:
        raise DamagedData(f"{name}: images of shape {x.shape}, expected [N, {PIXELS}]")
    return x, y
