"""CORe50's streams from file lists, in a tiny tree of the published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clx.benchmark.core50 import FOLDERS, CORe50
from clx.cli import main
from clx.data.core50 import CORe50 as Images
from clx.data.dataset import DamagedData

# Three experiences: objects 3 and 1; 1 again, in another session; 6.
LISTS = [[(1, 3), (1, 1)], [(2, 1)], [(1, 6)]]
OBJECTS = (1, 3, 6)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two frames of each object in sessions 1, 2 (training) and 3 (test), and the lists of every protocol, run 0."""
    home = tmp_path / "data" / "core50"
    for s in (1, 2, 3):
        for o in OBJECTS:
            folder = home / "core50_128x128" / f"s{s}" / f"o{o}"
            folder.mkdir(parents=True)
            for frame in range(2):
                pixels = np.full((128, 128, 3), (s, o, frame), np.uint8)
                Image.fromarray(pixels).save(folder / name(s, o, frame).split("/")[2])
    for protocol in FOLDERS.values():
        folder = home / protocol / "run0"
        folder.mkdir(parents=True)
        for i, pairs in enumerate(LISTS):
            write(folder / f"train_batch_{i:02d}_filelist.txt", [(s, o, f) for s, o in pairs for f in (0, 1)])
        write(folder / "test_filelist.txt", [(3, o, f) for o in OBJECTS for f in (0, 1)])
    return tmp_path / "data"


def name(s: int, o: int, frame: int) -> str:
    return f"s{s}/o{o}/C_{s:02d}_{o:02d}_{frame:03d}.png"


def write(path: Path, entries: list[tuple[int, int, int]]) -> None:
    path.write_text("".join(f"{name(s, o, f)} {o - 1}\n" for s, o, f in entries))


def relabel(folder: Path, labels: dict[int, int]) -> None:
    """Give each object another label in every list of the folder, as the published NC lists do in each run."""
    for path in folder.glob("*.txt"):
        images = [line.split(" ")[0] for line in path.read_text().splitlines()]
        path.write_text("".join(f"{image} {labels[int(image.split('/')[1][1:])]}\n" for image in images))


def core50(root: Path, categories: bool = False, **keys: Any) -> CORe50:
    return CORe50(data=Images(categories), root=str(root), **keys)


@pytest.mark.parametrize("protocol", FOLDERS)
def test_experiences_are_those_of_the_lists(protocol: Any, root: Path) -> None:
    """Object 3 comes first, so class 2 is column 0; object 1 keeps column 1 when it comes again."""
    benchmark = core50(root, protocol=protocol)
    first, second, third = benchmark.train
    assert [e.classes for e in (first, second, third)] == [(0, 1), (1,), (2,)]
    assert [e.new_classes for e in (first, second, third)] == [(0, 1), (), (2,)]
    assert [e.previous_classes for e in (first, second, third)] == [(), (0, 1), (0, 1)]
    assert (
        sorted(zip(first.data.raw[:, 1, 0, 0].tolist(), first.data.y.tolist(), strict=True))
        == [(1, 1)] * 2 + [(3, 0)] * 2
    )
    assert second.data.raw[:, 0, 0, 0].tolist() == [2, 2]
    assert benchmark.num_classes == 3


def test_one_test_set_of_all_classes(root: Path) -> None:
    benchmark = core50(root)
    (test,) = benchmark.test
    assert benchmark.test.classes == [(0, 1, 2)]
    objects = {0: 3, 1: 1, 2: 6}
    assert [objects[c] for c in test.y.tolist()] == test.raw[:, 1, 0, 0].tolist()
    assert len(test) == 6
    assert len(core50(root, test_samples_per_class=1).test[0]) == 3
    assert len(core50(root, samples_per_class=1).train[0].data) == 2


def test_categories(root: Path) -> None:
    """Objects 1 and 3 are of category 0, 6 of category 1."""
    benchmark = core50(root, categories=True)
    assert [e.classes for e in benchmark.train] == [(0,), (0,), (1,)]
    assert benchmark.num_classes == 2


@pytest.mark.parametrize(("categories", "columns"), [(False, {3: 0, 1: 1, 6: 2}), (True, {3: 0, 1: 0, 6: 1})])
def test_an_object_keeps_its_class_whatever_a_list_calls_it(
    categories: bool, columns: dict[int, int], root: Path
) -> None:
    """NC numbers the objects as they arrive, here 3 -> 0, 1 -> 1, 6 -> 2; object 6 is of category 1 all the same."""
    relabel(root / "core50" / FOLDERS["nc"] / "run0", {3: 0, 1: 1, 6: 2})
    benchmark = core50(root, categories, protocol="nc")
    for samples in (*(experience.data for experience in benchmark.train), benchmark.test[0]):
        assert samples.y.tolist() == [columns[o] for o in samples.raw[:, 1, 0, 0].tolist()]
    for experience in benchmark.train:
        assert set(experience.data.y.tolist()) == set(experience.classes)


def test_an_image_that_is_not_there(root: Path) -> None:
    path = root / "core50" / "NIC_v2_391" / "run0" / "train_batch_01_filelist.txt"
    path.write_text(f"{name(3, 1, 0)} 0\n")  # a test image
    with pytest.raises(DamagedData, match=r"s3/o1/C_03_01_000\.png is in a file list and not among"):
        core50(root).train[1]
    for line in ("nonsense", "s1/o51/C_01_51_000.png 50", "s1/o1/C_01_01_000.png x", "C_01_01_000.png 0"):
        path.write_text(f"{line}\n")
        with pytest.raises(DamagedData, match=f"the line '{line}' is not an image and its class"):
            core50(root)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_experiences": 3},
        {"init_classes": 2},
        {"class_order": [1, 0]},
        {"shuffle": True},
        {"run": 10},
        {"run": -1},
        {"scenario": "task_incremental"},
        {"task_labels": True},
        {"task_labels": [0, 1, 2]},
    ],
)
def test_keys_that_the_lists_decide(wrong: dict[str, Any], root: Path) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} "):
        core50(root, **wrong)


def test_as_it_is_typed(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(root.parent)
    words = ["benchmark=core50", f"data_root={root}", "trainer.epochs=1", "model.hidden_size=4", "logger=none"]
    assert main(words) == 0, capsys.readouterr().err
    assert main([*words, "benchmark.run=7"]) == 2
    error = capsys.readouterr().err
    assert "run7 has no test_filelist.txt" in error
    assert error.count("\n") <= 2
