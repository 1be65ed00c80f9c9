"""Reading finished runs back from their folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clx.metric.matrix import Matrix, from_lists
from clx.metric.summary import METRICS, summary
from clx.store.files import read_json, read_yaml
from clx.store.identity import identity
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
    def matrix(self) -> Matrix:
        """The accuracy matrix, row 0 included."""
        return from_lists(self.result["accuracy_matrix"])

    @cached_property
    def values(self) -> dict[str, float | None]:
        """Every number by the names in NAMES, the metrics recomputed from the matrices."""
        aware = summary(from_lists(self.result["task_aware_accuracy_matrix"]))
        numbers = dict(summary(self.matrix)) | {f"task_aware/{name}": value for name, value in aware.items()}
        return numbers | {f"cost/{name}": self.result["cost"].get(name) for name in COSTS}


def run_folders(paths: Iterable[Path]) -> Iterator[Path]:
    """Every folder at or below the paths that holds a run. Raises FileNotFoundError for a path that is not there."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder")
        yield from sorted(found.parent for found in path.rglob("config.yaml") if _is_run(found.parent))


def _is_run(folder: Path) -> bool:
    return (folder / "status.json").exists() or (folder / "result.json").exists()


def read(folder: Path) -> Record:
    """A finished run. Raises ValueError with the reason where the folder holds none, or a damaged one."""
    state = read_status(folder)["state"]
    if not (folder / "result.json").exists():
        raise ValueError(f"not finished ({state})")
    try:
        config, result = read_yaml(folder / "config.yaml"), read_json(folder / "result.json")
    except (OSError, ValueError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(result, Mapping) or result.get("schema") != SCHEMA:
        found = result.get("schema") if isinstance(result, Mapping) else type(result).__name__
        raise ValueError(f"result.json has schema {found}, not {SCHEMA}")
    record = Record(folder, config, dict(result))
    try:
        _ = record.values, record.benchmark, record.strategy, record.seed
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its files are damaged ({type(error).__name__}: {error})") from None
    return record


def read_all(folders: Iterable[Path]) -> tuple[list[Record], list[tuple[Path, str]]]:
    """The finished runs, each once, and (folder, why) of those left out."""
    records: dict[str, Record] = {}
    left_out = []
    for folder in folders:
        try:
            record = read(folder)
        except ValueError as error:
            left_out.append((folder, str(error)))
            continue
        key = repr((record.benchmark, record.strategy, record.seed, sorted(record.leaves.items(), key=str)))
        if key in records:
            left_out.append((folder, f"the same run as {records[key].folder}"))
        else:
            records[key] = record
    return list(records.values()), left_out
