"""CORe50's own streams, from its published file lists."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from clx.benchmark.stream import Benchmark, Stream
from clx.data.core50 import CORe50 as Images
from clx.data.core50 import object_class
from clx.data.dataset import Arrays, DamagedData, MissingData
from clx.types import Samples

FOLDERS = {
    "ni": "batches_filelists/NI_inc",
    "nc": "batches_filelists/NC_inc",
    "nic": "batches_filelists/NIC_inc",
    "nicv2_79": "NIC_v2_79",
    "nicv2_196": "NIC_v2_196",
    "nicv2_391": "NIC_v2_391",
}


@dataclass(kw_only=True, eq=False)
class CORe50(Benchmark):
    """New instances (ni), new classes (nc), or both (nic, nicv2_*). Lomonaco & Maltoni 2017, arXiv:1705.03550;
    Lomonaco et al. 2020, arXiv:1907.03799 (NICv2).

    protocol: which file lists; run: 0 to 9, the order that they are in. A class that comes again keeps its column.
    There is one test set, all three test sessions; it is measured once all its classes have come. So there are no
    task labels: its samples belong to no experience.
    """

    data: Images
    protocol: Literal["ni", "nc", "nic", "nicv2_79", "nicv2_196", "nicv2_391"] = "nicv2_391"
    run: int = 0

    def __post_init__(self) -> None:
        for key in ("num_experiences", "init_classes", "classes_per_experience", "class_order"):
            if getattr(self, key) is not None:
                raise ValueError(f"{key} {getattr(self, key)}: the file lists say that; set it to null")
        if self.scenario == "task_incremental":
            raise ValueError(f"scenario {self.scenario}: the one test set has no task labels; set class_incremental")
        if self.task_labels not in (None, False):
            raise ValueError(f"task_labels {self.task_labels}: the one test set has none; set it to null")
        if self.shuffle:
            raise ValueError("shuffle true: the file lists have an order, choose it with run; set it to false")
        if not 0 <= self.run <= 9:
            raise ValueError(f"run {self.run} is outside 0..9")
        super().__post_init__()
        order = list(dict.fromkeys(label for group in self.groups for label in group))
        column = {label: position for position, label in enumerate(order)}
        self.columns = [tuple(column[label] for label in group) for group in self.groups]

    @cached_property
    def folder(self) -> Path:
        """Of the file lists of this protocol and run. Raises MissingData."""
        home = self.data.home(Path(self.root or ".").expanduser())
        folder = home / FOLDERS[self.protocol] / f"run{self.run}"
        if not (folder / "test_filelist.txt").is_file():
            raise MissingData(f"{folder} has no test_filelist.txt; unpack the file lists of {self.protocol} there")
        return folder

    @cached_property
    def lists(self) -> list[list[tuple[str, int]]]:
        """(image, class) of every experience."""
        found = sorted(self.folder.glob("train_batch_*_filelist.txt"), key=lambda path: int(path.name.split("_")[2]))
        if not found:
            raise MissingData(f"{self.folder} has no train_batch_00_filelist.txt")
        return [self._read(path) for path in found]

    def _read(self, path: Path) -> list[tuple[str, int]]:
        # The class is that of the object's folder: the lists of NC number the objects as they arrive, anew in each run.
        entries = []
        for line in path.read_text().splitlines():
            image, _, label = line.strip().rpartition(" ")
            own = object_class(image)
            if own is None or not label.isdigit():
                raise DamagedData(f"{path}: the line {line!r} is not an image and its class 0..49")
            entries.append((image, own // 5 if self.data.categories else own))
        return entries

    def partition(self) -> list[tuple[int, ...]]:
        try:
            return [tuple(dict.fromkeys(label for _, label in entries)) for entries in self.lists]
        except MissingData as error:
            raise ValueError(f"data: {error}") from error

    @cached_property
    def test(self) -> Stream[Samples]:
        """The one test set."""
        classes = tuple(range(self.num_classes))
        return Stream(range(1), self._whole_test, self.transform, [classes])

    @cached_property
    def _where(self) -> tuple[dict[str, int], dict[str, int]]:
        root = Path(self.root or ".").expanduser()
        train, test = (self.data.paths(root, train=train) for train in (True, False))
        return {name: row for row, name in enumerate(train)}, {name: row for row, name in enumerate(test)}

    def rows(self, i: int, arrays: Arrays, label: int) -> Tensor:
        return self._find([image for image, own in self.lists[i] if own == label], 0)

    def _find(self, images: list[str], part: int) -> Tensor:
        known = self._where[part]
        missing = [image for image in images if image not in known]
        if missing:
            raise DamagedData(f"{self.folder}: {missing[0]} is in a file list and not among the images of that part")
        return torch.tensor([known[image] for image in images], dtype=torch.int64)

    def _whole_test(self, _: int) -> Samples:
        arrays, entries = self.load()[1], self._read(self.folder / "test_filelist.txt")
        column = {
            label: c
            for group, own in zip(self.groups, self.columns, strict=True)
            for label, c in zip(group, own, strict=True)
        }
        kept: list[tuple[str, int]] = []
        for label in column:
            kept += [entry for entry in entries if entry[1] == label][: self.test_samples_per_class]
        rows = self._find([image for image, _ in kept], 1)
        y = torch.tensor([column[label] for _, label in kept], dtype=torch.int64)
        return Samples(arrays.x, y, torch.full_like(y, self.labels[0]), rows)
