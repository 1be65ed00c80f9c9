"""What a run has come to, and where two runs differ: bit for bit, clocks apart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from clx.store import checkpoint
from clx.store.files import read_json, read_yaml

TEXTS = ("metrics.csv", "matrix.csv")
CLOCKED = ("cost", "counters")  # the parts of result.json and of a checkpoint that hold what was measured by a clock
SHOWN = 5  # differences named, of all


def outcome(folder: Path) -> dict[str, Any]:
    """Everything of a finished run that must be the same however it came about.

    Raises OSError or ValueError where a file is missing or cannot be read.
    """
    config = read_yaml(folder / "config.yaml")
    return {
        "status.json": read_json(folder / "status.json")["state"],
        "config.yaml": {key: value for key, value in config.items() if key != "output_root"},
        "result.json": _timeless(read_json(folder / "result.json")),
        **{name: (folder / name).read_text() for name in TEXTS},
        "checkpoint": _timeless(checkpoint.load(folder)),
    }


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """Where two outcomes differ, by path; two NaN of the same kind are the same, 0.0 and -0.0 are not."""
    if type(expected) is not type(found):
        return [f"{where}: {type(found).__name__} instead of {type(expected).__name__}"]
    if isinstance(expected, dict):
        if expected.keys() != found.keys():
            return [f"{where}: keys {sorted(map(str, expected.keys() ^ found.keys()))}"]
        return [line for key in expected for line in differences(expected[key], found[key], f"{where}/{key}")]
    if isinstance(expected, list | tuple):
        if len(expected) != len(found):
            return [f"{where}: {len(found)} entries instead of {len(expected)}"]
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for number, (a, b) in pairs for line in differences(a, b, f"{where}/{number}")]
    if isinstance(expected, torch.Tensor):
        return [] if _same_bits(expected, found) else [f"{where}: another tensor"]
    if isinstance(expected, float):
        same = math.copysign(1, expected) == math.copysign(1, found) and repr(expected) == repr(found)
        return [] if same else [f"{where}: {found!r} instead of {expected!r}"]
    if isinstance(expected, str) and "\n" in expected:
        return _lines(expected.splitlines(), found.splitlines(), where) if expected != found else []
    return [] if expected == found else [f"{where}: {found!r} instead of {expected!r}"]


def _timeless(content: Any) -> Any:
    """The same without what a clock or the memory of a process said."""
    measured = ("_seconds", "samples_per_second", "peak_memory_bytes")
    return {
        key: {name: v for name, v in value.items() if not name.endswith(measured)} if key in CLOCKED else value
        for key, value in content.items()
    }


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    return torch.equal(*(tensor.contiguous().flatten().view(torch.uint8) for tensor in (a, b)))


def _lines(expected: list[str], found: list[str], where: str) -> list[str]:
    if len(expected) != len(found):
        return [f"{where}: {len(found)} lines instead of {len(expected)}"]
    pairs = enumerate(zip(expected, found, strict=True), start=1)
    return [f"{where}:{number}: {b!r} instead of {a!r}" for number, (a, b) in pairs if a != b] or [
        f"{where}: line ends"
    ]
