"""Reading finished runs back from their folders."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clx.metric.matrix import Matrix, from_lists
from clx.metric.summary import METRICS, summary
from clx.store.files import read_json, read_many_yaml
from clx.store.identity import identity
from clx.store.index import Index, signature
from clx.store.run import read_status

COSTS = (
    "train_seconds",
    "eval_seconds",
    "total_seconds",
    "samples_per_second",
    "peak_memory_bytes",
    "parameters",
    "buffer_bytes",
)
NAMES = (*METRICS, *(f"task_aware/{name}" for name in METRICS), *(f"cost/{name}" for name in COSTS))
_LESS = ("forgetting", *(f"cost/{name}" for name in COSTS if name != "samples_per_second"))
LOWER_IS_BETTER = frozenset({*_LESS, "task_aware/forgetting"})
SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """One finished run: its folder, configuration and result."""

    folder: Path
    config: dict[str, Any]
    result: dict[str, Any]

    @property
    def benchmark(self) -> str:
        return str(self.config["choices"]["benchmark"])

    @property
    def strategy(self) -> str:
        return str(self.config["choices"]["strategy"])

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @cached_property
    def leaves(self) -> dict[str, Any]:
        """What makes the run what it is, the seed apart."""
        return {key: value for key, value in identity(self.config).items() if key != "seed"}

    @cached_property
    def key(self) -> str:
        """The same for runs of the same identity."""
        return json.dumps([self.benchmark, self.strategy, self.seed, self.leaves], sort_keys=True, default=str)

    @property
    def evaluated_on(self) -> str:
        """test or validation: whose samples the accuracies are of."""
        return str(self.config["trainer"].get("evaluate_on", "test"))

    @cached_property
    def matrix(self) -> Matrix:
        """The accuracy matrix, row 0 included."""
        return from_lists(self.result["accuracy_matrix"])

    @cached_property
    def values(self) -> dict[str, float | None]:
        """Every number by the names in NAMES, the metrics recomputed from the matrices."""
        aware = summary(from_lists(self.result["task_aware_accuracy_matrix"]))
        numbers = dict(summary(self.matrix)) | {f"task_aware/{name}": value for name, value in aware.items()}
        return numbers | {f"cost/{name}": _number(self.result["cost"].get(name)) for name in COSTS}


def _number(value: Any) -> float | None:
    """The value, where it is a number or None; a file may hold anything."""
    if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
        raise TypeError(f"{value!r} is no number")
    return value


def run_folders(paths: Iterable[Path]) -> Iterator[Path]:
    """Every folder at or below the paths that holds a run, once. Raises FileNotFoundError for a path not there."""
    found: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder")
        for place, folders, files in os.walk(path):
            folders.sort()
            if "config.yaml" in files and ("status.json" in files or "result.json" in files):
                folders.clear()  # a run holds no runs
                if Path(place) not in found:
                    found.add(Path(place))
                    yield Path(place)


def read(folder: Path, index: Index | None = None) -> Record:
    """A finished run. Raises ValueError with the reason where the folder holds none, or a damaged one."""
    stamp = signature(folder / "config.yaml", folder / "result.json")
    if not stamp:
        raise ValueError(f"not finished ({read_status(folder)['state']})")
    known = None if index is None else index.get(folder, stamp)
    try:
        config, result = known or (read_many_yaml(folder / "config.yaml"), read_json(folder / "result.json"))
    except (OSError, ValueError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(result, Mapping) or result.get("schema") != SCHEMA:
        found = result.get("schema") if isinstance(result, Mapping) else type(result).__name__
        raise ValueError(f"result.json has schema {found}, not {SCHEMA}")
    record = Record(folder, config, dict(result))
    try:
        _ = record.values, record.benchmark, record.strategy, record.seed, record.leaves, record.evaluated_on
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"its files are damaged ({type(error).__name__}: {error})") from None
    if index is not None and known is None:
        index.put(folder, stamp, [config, result])
    return record


def read_all(paths: Iterable[Path]) -> tuple[list[Record], list[tuple[Path, str]]]:
    """The finished runs at or below the paths, each once, and (folder, why) of those left out.

    Raises FileNotFoundError for a path that is not there.
    """
    records: dict[str, Record] = {}
    left_out = []
    for path in paths:
        index = Index(path)
        for folder in run_folders([path]):
            try:
                record = read(folder, index)
            except ValueError as error:
                left_out.append((folder, str(error)))
                continue
            first = records.setdefault(record.key, record)
            if first is not record and first.folder != folder:
                left_out.append((folder, f"the same run as {first.folder}"))
        index.save()
    return list(records.values()), left_out
