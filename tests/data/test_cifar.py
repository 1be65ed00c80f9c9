"""CIFAR's files in all their published forms, made small."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clx.cli import main
from clx.data import cifar
from clx.data.cifar import CIFAR
from clx.data.dataset import DamagedData, MissingData

COUNT = 10  # images in each file, one of each class of CIFAR-10


def part(number: int, classes: int) -> tuple[Any, Any]:
    """Images that differ in every pixel from file to file, with classes that go round."""
    x = (np.arange(COUNT * 3072).reshape(COUNT, 3072) * 7 + number * 31) % 256
    return x.astype(np.uint8), (np.arange(COUNT) * 3 + number) % classes


def write(root: Path, name: str, kind: str) -> None:
    """The files of one form, as they lie in the published archive."""
    _, folder, _, train, test = next(layout for layout in cifar.LAYOUTS[name] if layout[0] == kind)
    (root / folder).mkdir(parents=True)
    fine = name == "cifar100"
    for number, file in enumerate((*train, *test)):
        x, y = part(number, 100 if fine else 10)
        if kind == "binary":
            labels = [y // 5, y] if fine else [y]
            content = np.concatenate([np.stack(labels, 1).astype(np.uint8), x], 1).tobytes()
        else:
            keys = {b"data": x, b"fine_labels": y.tolist(), b"coarse_labels": (y // 5).tolist()}
            content = pickle.dumps(keys if fine else {b"data": x, b"labels": y.tolist()}, protocol=2)
        (root / folder / file).write_bytes(content)


def pack(root: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in an archive, whose checksum becomes the published one."""
    write(root, name, kind)
    layouts = cifar.LAYOUTS[name]
    folder = next(layout[1] for layout in layouts if layout[0] == kind)
    archive = root / cifar.ARCHIVES[folder]
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root / folder, folder)
    for path in (root / folder).iterdir():
        path.unlink()
    (root / folder).rmdir()
    digest = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(cifar.LAYOUTS, name, [(k, f, digest, a, b) for k, f, _, a, b in layouts])
    return archive


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["binary", "pickle"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_every_form_gives_the_same(
    name: Any, kind: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(tmp_path, name, kind, monkeypatch) if packed else write(tmp_path, name, kind)
    data = CIFAR(name)
    train, test = data.load(tmp_path)
    files = 5 if name == "cifar10" else 1
    wanted = [part(number, data.num_classes) for number in range(files + 1)]
    assert torch.equal(train.x.flatten(1), torch.from_numpy(np.concatenate([x for x, _ in wanted[:-1]])))
    assert train.y.tolist() == np.concatenate([y for _, y in wanted[:-1]]).tolist()
    assert test.x.shape == (COUNT, 3, 32, 32)
    assert (test.x.dtype, test.y.tolist()) == (torch.uint8, wanted[-1][1].tolist())
    again, _ = CIFAR(name).load(tmp_path)
    assert torch.equal(again.x, train.x)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"cifar-10-batches-bin.*cifar-10-python\.tar\.gz\n.*clx data fetch cifar10"):
        CIFAR().load(tmp_path)


def test_a_file_is_missing(tmp_path: Path) -> None:
    write(tmp_path, "cifar10", "binary")
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    with pytest.raises(MissingData, match=r"lacks data_batch_3\.bin"):
        CIFAR().load(tmp_path)


def test_a_whole_form_stands_in_for_one_that_lacks_a_file(tmp_path: Path) -> None:
    write(tmp_path, "cifar10", "binary")
    write(tmp_path, "cifar10", "pickle")
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    assert {path.parent.name for path in CIFAR().files(tmp_path)} == {"cifar-10-batches-py"}


def test_an_archive_stands_in_for_what_was_not_wholly_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path, "cifar10", "binary", monkeypatch)
    write(tmp_path, "cifar10", "binary")
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    assert CIFAR().files(tmp_path) == [archive]


def test_a_file_is_cut_short(tmp_path: Path) -> None:
    write(tmp_path, "cifar100", "binary")
    path = tmp_path / "cifar-100-binary" / "train.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedData, match=r"train\.bin: 30739 bytes, expected a multiple of 3074"):
        CIFAR("cifar100").load(tmp_path)


def test_an_archive_that_is_not_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"something else")
    with pytest.raises(DamagedData, match=r"its MD5 is [0-9a-f]{32}, expected c32a1d4ab5d03f1284b67883e8d87530"):
        CIFAR().load(tmp_path)


def test_an_archive_writes_nothing_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that would leave the folder stays in the archive; its files are read without unpacking."""
    inside = tmp_path / "data"
    archive = pack(inside, "cifar100", "binary", monkeypatch)
    with tarfile.open(archive) as tar:
        members = [(info, tar.extractfile(info).read()) for info in tar.getmembers() if info.isfile()]
    with tarfile.open(archive, "w:gz") as tar:
        for info, content in [(tarfile.TarInfo("../../escaped"), b"x"), *members]:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    digest = hashlib.md5(archive.read_bytes()).hexdigest()
    layouts = [(k, f, digest, a, b) for k, f, _, a, b in cifar.LAYOUTS["cifar100"]]
    monkeypatch.setitem(cifar.LAYOUTS, "cifar100", layouts)
    CIFAR("cifar100").load(inside)
    assert not list(tmp_path.rglob("escaped"))
    assert not (inside / "cifar-100-binary").exists()


class Bomb:
    """What a hostile file would run."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize(
    "content", [pickle.dumps(Bomb()), pickle.dumps({b"data": Bomb(), b"labels": []}), b"", b"\x80\x02"]
)
def test_a_python_file_executes_nothing(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "cifar10", "pickle")
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(content)
    with pytest.raises(DamagedData, match="data_batch_2: "):
        CIFAR().load(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_a_class_that_is_too_large(tmp_path: Path) -> None:
    write(tmp_path, "cifar10", "binary")
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(bytes([10]) + path.read_bytes()[1:])
    with pytest.raises(DamagedData, match=r"class 10 is outside 0\.\.9"):
        CIFAR().load(tmp_path)


def test_as_it_is_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty training images, cropped and flipped; then without any files."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data", "cifar10", "binary")
    words = ["benchmark=split_cifar10", "data_root=data", "trainer.epochs=1", "model.hidden_size=8", "logger=none"]
    assert main(words) == 0, capsys.readouterr().err
    assert main(["benchmark=split_cifar100", "data_root=nowhere"]) == 2
    assert "clx data fetch cifar100" in capsys.readouterr().err
