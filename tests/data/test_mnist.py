"""MNIST and its like from IDX files in their real layout, a handful of images each."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from clx.data import mnist
from clx.data.dataset import DamagedData, MissingData
from clx.data.mnist import MNIST, read_idx

NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
SYSTEM = Path("/usr/share/datasets/fashion-mnist")


def idx(shape: tuple[int, ...], content: Iterable[int]) -> bytes:
    """Two zero bytes, 0x08 for unsigned bytes, the number of dimensions, each as a big-endian int, the data."""
    return struct.pack(f">HBB{len(shape)}I", 0, 0x08, len(shape), *shape) + bytes(content)


def images(classes: list[int]) -> bytes:
    """28x28 images filled with 20 times their class, but for the second pixel of the first row: 255."""
    return idx((len(classes), 28, 28), (255 if i == 1 else 20 * c for c in classes for i in range(784)))


def write(folder: Path, train: list[int], test: list[int], *, suffix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    contents = [f(part) for part in (train, test) for f in (images, lambda part: idx((len(part),), part))]
    for name, content in zip(NAMES, contents, strict=True):
        (folder / (name + suffix)).write_bytes(gzip.compress(content, mtime=0) if suffix else content)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_load(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, [3, 0, 9, 3], [1, 2, 0], suffix=suffix)
    train, test = MNIST().load(tmp_path)
    for part, classes in ((train, [3, 0, 9, 3]), (test, [1, 2, 0])):
        assert (part.x.dtype, part.y.dtype) == (torch.uint8, torch.int64)
        assert part.x.shape == (len(classes), 1, 28, 28)
        assert part.y.tolist() == classes
        assert (part.x[:, 0, 0, 1] == 255).all()  # row 0, column 1: rows are not swapped with columns
        assert (part.x == 255).sum() == len(classes)
        assert part.x[:, 0, 27, 27].tolist() == [20 * c for c in classes]


FOLDERS = [("mnist", "MNIST/raw"), ("mnist", "mnist"), ("mnist", ".")]
FOLDERS += [("fashion_mnist", f) for f in ("FashionMNIST/raw", "fashion_mnist", "fashion-mnist", ".")]


@pytest.mark.parametrize(("name", "folder"), FOLDERS)
def test_folders_below_the_root(tmp_path: Path, name: str, folder: str) -> None:
    write(tmp_path / folder, [1], [2], suffix=".gz")
    assert MNIST(name).files(tmp_path) == [tmp_path / folder / f"{file}.gz" for file in NAMES]  # type: ignore[arg-type]


def test_the_first_folder_and_the_plain_file_win(tmp_path: Path) -> None:
    write(tmp_path, [5], [5])
    write(tmp_path / "MNIST/raw", [1], [2], suffix=".gz")
    write(tmp_path / "MNIST/raw", [3], [4])
    train, test = MNIST().load(tmp_path)
    assert (train.y.tolist(), test.y.tolist()) == ([3], [4])


@pytest.mark.parametrize(
    ("name", "remedies"),
    [
        ("mnist", ["`clx data fetch mnist`", "copy them", "data_root"]),
        ("fashion_mnist", ["`clx data fetch fashion_mnist`", "dataset-fashion-mnist", "data_root"]),
    ],
)
def test_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, remedies: list[str]) -> None:
    monkeypatch.setattr(mnist, "SYSTEM", {"mnist": [], "fashion_mnist": [tmp_path / "system"]})
    data = MNIST(name)  # type: ignore[arg-type]
    with pytest.raises(MissingData) as caught:
        data.load(tmp_path)
    assert len(data.places(tmp_path)) == {"mnist": 3, "fashion_mnist": 5}[name]
    for part in [name, *remedies, *map(str, data.places(tmp_path))]:
        assert part in str(caught.value)


@pytest.mark.parametrize("lost", range(4))
def test_partly_missing(tmp_path: Path, lost: int) -> None:
    folder = tmp_path / "mnist"
    write(folder, [1], [2], suffix=".gz")
    (folder / f"{NAMES[lost]}.gz").unlink()
    with pytest.raises(MissingData) as caught:
        MNIST().files(tmp_path)
    assert str(folder) in str(caught.value)
    assert [name for name in NAMES if name in str(caught.value)] == [NAMES[lost]]


WHOLE = idx((2, 3), range(6))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.gz", gzip.compress(WHOLE, mtime=0)[:-9], "not a whole gzip file"),
        ("a.gz", WHOLE, "not a whole gzip file"),
        ("a.gz", b"", "starts with nothing"),
        ("a", b"", "starts with nothing"),
        ("a", WHOLE[:-1], r"5 bytes of data, expected 6 for shape \(2, 3\)"),
        ("a", WHOLE + b"\0", "7 bytes of data, expected 6"),
        ("a", WHOLE[:7], "starts with 00000802"),  # the header itself is cut short
        ("a", idx((3, 3), range(6)), "6 bytes of data, expected 9"),
        ("a", idx((6,), range(6)), "starts with 00000801, expected 00000802"),
        ("a", b"\0\0\x0d\x02" + WHOLE[4:], "starts with 00000d02, expected 00000802"),  # 0x0d: floats
    ],
)
def test_damaged_idx(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DamagedData, match=message) as caught:
        read_idx(path, 2)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_whole_idx(tmp_path: Path, pack: type[bytes]) -> None:
    path = tmp_path / ("a" if pack is bytes else "a.gz")
    path.write_bytes(pack(WHOLE))
    assert read_idx(path, 2).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (NAMES[1], idx((3,), [0, 1, 2]), "found 2 inputs .* with 3 classes"),
        (NAMES[1], idx((2,), [0, 10]), r"class 10 is outside 0\.\.9"),
        (NAMES[0], idx((2, 28, 27), [0] * 2 * 28 * 27), r"shape \(1, 28, 27\).*expected shape \(1, 28, 28\)"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write(tmp_path, [0, 1], [2])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedData, match=message) as caught:
        MNIST().load(tmp_path)
    assert name in str(caught.value)


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"^name 'kmnist' is not one of mnist, fashion_mnist"):
        MNIST("kmnist")  # type: ignore[arg-type]


@pytest.mark.skipif(not SYSTEM.is_dir(), reason=f"Debian's package dataset-fashion-mnist is not in {SYSTEM}")
def test_real_fashion_mnist(tmp_path: Path) -> None:
    """Xiao et al. 2017: 6,000 training and 1,000 test images of each class; both parts begin with an ankle boot, 9.

    Tolerance of mean and deviation: their four digits. Below a regular file no cache of 55 MB can be written.
    """
    (tmp_path / "file").touch()
    data = MNIST("fashion_mnist")
    train, test = data.load(tmp_path / "file")
    assert (train.x.shape, test.x.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert train.y.bincount().tolist() == [6000] * 10
    assert test.y.bincount().tolist() == [1000] * 10
    assert (int(train.y[0]), int(test.y[0])) == (9, 9)
    grey = torch.arange(256) / 255
    share = train.x.flatten().bincount(minlength=256).double() / train.x.numel()
    mean = (share * grey).sum()
    assert mean.item() == pytest.approx(data.mean[0], abs=5e-5)
    assert (share * (grey - mean) ** 2).sum().sqrt().item() == pytest.approx(data.std[0], abs=5e-5)
