"""In what two runs differ: configuration, environment, stream, and where their numbers part."""

from __future__ import annotations

import csv
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from clx.metric.matrix import Matrix, from_lists
from clx.store.files import read_json, read_yaml
from clx.store.identity import flatten, identity, show
from clx.store.records import NAMES, Record, read
from clx.store.run import HEADER, read_status

WHOLE = 60  # characters of a list up to which it is shown whole; of a longer one the first position that differs


class Absent:
    """Stands for the value of a key that only the other run has."""

    def __repr__(self) -> str:
        return "(absent)"


ABSENT = Absent()
Pair = tuple[Any, Any]  # the first run's and the second's
Row = dict[str, str]  # of metrics.csv


@dataclass(frozen=True)
class Run:
    """What a run's folder says, finished or not. None = not known: the file is missing or broken."""

    folder: Path
    config: dict[str, Any]
    status: dict[str, Any]
    environment: dict[str, Any] | None
    record: Record | None
    problem: str | None  # why record is None

    @property
    def state(self) -> str:
        return str(self.status["state"])


def read_run(folder: Path) -> Run:
    """Read a run's folder. Raises ValueError where its config.yaml is missing or not a run's."""
    try:
        config = read_yaml(folder / "config.yaml")
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: no run there ({error})") from error
    if not _is_of_a_run(config):
        raise ValueError(f"{folder}: no run there (its config.yaml does not say benchmark, strategy and seed)")
    record, problem = None, None
    try:
        record = read(folder)
    except ValueError as error:
        problem = str(error)
    return Run(folder, config, read_status(folder), _environment(folder), record, problem)


def _is_of_a_run(config: Mapping[str, Any]) -> bool:
    choices = config.get("choices")
    if not isinstance(choices, Mapping) or not isinstance(config.get("seed"), int):
        return False
    chosen = [name for value in choices.values() for name in (value if isinstance(value, list) else [value])]
    return (
        all(isinstance(key, str) for key in (*config, *choices))
        and all(name is None or isinstance(name, str) for name in chosen)
        and all(isinstance(choices.get(group), str) for group in ("benchmark", "strategy"))
    )


def _environment(folder: Path) -> dict[str, Any] | None:
    try:
        content = read_json(folder / "environment.json")
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


@dataclass(frozen=True)
class Parting:
    """Where two files metrics.csv part, after so many rows that are the same; None = that file ends there."""

    rows: int
    first: Row | None
    second: Row | None

    @property
    def identical(self) -> bool:
        return self.first is None and self.second is None

    @property
    def same_place(self) -> bool:
        """Whether both have the row, and it differs in its value alone."""
        if self.first is None or self.second is None:
            return False
        return all(self.first[name] == self.second[name] for name in HEADER[:-1])


@dataclass(frozen=True)
class Cell:
    """The first cell in which two accuracy matrices differ: after so many experiences, on test set 0, 1, ..."""

    after: int
    test_set: int
    values: Pair


@dataclass(frozen=True)
class Diff:
    """Two runs side by side; every section holds what differs alone, key -> the two values."""

    runs: tuple[Run, Run]

    @cached_property
    def deciding(self) -> dict[str, Pair]:
        """Of the configuration, what decides the result."""
        first, second = ({**identity(run.config), **_chosen(run.config)} for run in self.runs)
        return differing(first, second)

    @cached_property
    def other(self) -> dict[str, Pair]:
        """Of the configuration, what says where and on what a run runs, not what it computes."""
        found = differing(*(flatten(run.config) for run in self.runs))
        return {k: pair for k, pair in found.items() if not k.startswith("choices.") and k not in self.deciding}

    @cached_property
    def environment(self) -> dict[str, Pair] | None:
        """What they ran on; None = not known of one of them."""
        return self._sections(lambda e: {k: v for k, v in e.items() if k not in ("stream", "seed")})

    @cached_property
    def stream(self) -> dict[str, Pair] | None:
        """What was drawn for their streams; None = not known of one of them."""
        if any(not isinstance((run.environment or {}).get("stream"), Mapping) for run in self.runs):
            return None
        return self._sections(lambda e: e["stream"])

    def _sections(self, part: Any) -> dict[str, Pair] | None:
        found = [run.environment for run in self.runs]
        if None in found:
            return None
        return differing(*(flatten(part(environment)) for environment in found))

    @cached_property
    def numbers(self) -> dict[str, Pair]:
        """Every metric and cost that one of them has, differing or not; None = not known."""
        first, second = (run.record.values if run.record is not None else {} for run in self.runs)
        pairs = {name: (first.get(name), second.get(name)) for name in NAMES}
        return {name: pair for name, pair in pairs.items() if pair != (None, None)}

    @cached_property
    def parting(self) -> Parting | None:
        """Where metrics.csv parts; None = not known."""
        return parting(*(run.folder / "metrics.csv" for run in self.runs))

    @cached_property
    def cell(self) -> Cell | None:
        """Where the accuracy matrices part; None = nowhere, or not known."""
        first, second = (run.record for run in self.runs)
        if first is None or second is None:
            return None
        name = "task_aware_accuracy_matrix"
        return cell(first.matrix, second.matrix) or cell(*(from_lists(r.result[name]) for r in (first, second)))

    @property
    def identical(self) -> bool | None:
        """Whether all numbers, the costs apart, are the same, bit for bit; None = not known."""
        if self.cell is not None or (self.parting is not None and not self.parting.identical):
            return False
        known = self.parting is not None and all((r.record is None) == (r.state != "finished") for r in self.runs)
        return True if known else None


def _chosen(config: Mapping[str, Any]) -> dict[str, Any]:
    return {f"choices.{group}": config["choices"][group] for group in ("benchmark", "strategy")}


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Pair]:
    """The keys with other values, or that one of them lacks; of long lists, the first position that differs."""
    found = {}
    for key in dict.fromkeys([*first, *second]):
        a, b = first.get(key, ABSENT), second.get(key, ABSENT)
        empty = all(value is ABSENT or value == {} for value in (a, b))  # what it would hold is told key by key
        if not empty and not _same(a, b):
            place, *pair = narrowed(key, a, b)
            found[place] = (pair[0], pair[1])
    return found


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float) and np.isnan(a):
        return bool(np.isnan(b))
    return a is b or bool(a == b)


def narrowed(key: str, a: Any, b: Any) -> tuple[str, Any, Any]:
    """(key, a, b), or where they are long lists, the first position in which they differ and the two values there."""
    while isinstance(a, list) and isinstance(b, list) and max(len(show(a)), len(show(b))) > WHOLE:
        places = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if not _same(x, y))
        place = next(places, None)
        if place is None:
            return f"{key}: length", len(a), len(b)
        key, a, b = f"{key}[{place}]", a[place], b[place]
    return key, a, b


def plain_text(value: Any) -> str:
    """A fact as people read it; a value of the configuration is rather shown as one types it."""
    return value if isinstance(value, str) else show(value)


def parting(first: Path, second: Path) -> Parting | None:
    """Read two files metrics.csv side by side up to the first row that differs; None where one cannot be read."""
    count = 0
    try:
        with closing(_rows(first)) as ours, closing(_rows(second)) as theirs:
            for a, b in zip_longest(ours, theirs):
                if a != b:
                    return Parting(count, a, b)
                count += 1
    except (OSError, ValueError, csv.Error):
        return None
    return Parting(count, None, None)


def _rows(path: Path) -> Generator[Row, None, None]:
    """Every whole row: of a run that was killed, the last line may be cut short."""
    with path.open(newline="", errors="replace") as file:
        lines = csv.reader(line for line in file if line.endswith("\n"))
        if next(lines, None) != HEADER:
            raise ValueError(f"{path} does not begin with {','.join(HEADER)}")
        for cells in lines:
            if len(cells) != len(HEADER):
                raise ValueError(f"{path} is damaged in line {lines.line_num}")
            yield dict(zip(HEADER, cells, strict=True))


def cell(first: Matrix, second: Matrix) -> Cell | None:
    """The first cell in which two accuracy matrices differ; cells that one of them lacks are None."""
    rows, columns = (max(sizes) for sizes in zip(first.shape, second.shape, strict=True))
    a, b = (np.full((rows, columns), np.nan) for _ in range(2))
    a[: first.shape[0], : first.shape[1]], b[: second.shape[0], : second.shape[1]] = first, second
    places = np.argwhere(~((a == b) | (np.isnan(a) & np.isnan(b))))
    if not len(places):
        return None
    row, column = (int(n) for n in places[0])
    values = tuple(None if np.isnan(m[row, column]) else float(m[row, column]) for m in (a, b))
    return Cell(row, column, (values[0], values[1]))
