"""What every case of benchmark_speed.py is, and how two sides are measured against each other."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clx.store.environment import machine

TOLERANCE = 1e-3  # of the outcomes' largest value: float32 sums taken in another order
Work = Callable[[], Tensor]
Side = Callable[[], Work]
Found = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One case: two sides that do the same work.

    bare, ours: called, untimed, to prepare a piece of work; the work is timed, and both return the same numbers
    (final weights, accuracies), so that the comparison is of like with like. limit: of clx / bare; None = none set.
    short: the same on less data, where the two are compared: over many steps roundings grow into other weights.
    """

    bare: Side
    ours: Side
    limit: float | None = None
    short: Pair | None = None


def ratio(name: str, case: Pair, pairs: int) -> Found:
    """Medians and the spread of clx / bare over the pairs, after one pair that warms up and is thrown away.

    On a busy machine: cpu_ratio is the same of the process's CPU time, best_ratio that of the two fastest times.
    Raises ValueError where the two sides come to different results.
    """
    check = case.short or case
    difference = disagreement(check.bare()(), check.ours()())
    if difference > TOLERANCE:
        raise ValueError(f"{name}: bare loop and clx end {difference:.2g} apart; they do not do the same work")
    for side in (case.bare, case.ours):
        side()()
    wall, cpu = [], []
    for pair in range(pairs):
        order = (case.bare, case.ours) if pair % 2 == 0 else (case.ours, case.bare)  # neither always comes second
        first, second = (timed(side()) for side in order)
        bare, ours = (first, second) if pair % 2 == 0 else (second, first)
        wall.append((bare[0], ours[0]))
        cpu.append((bare[1], ours[1]))
    found = spread([ours / bare for bare, ours in wall]) | {
        "cpu_ratio": statistics.median(ours / bare for bare, ours in cpu),
        "best_ratio": min(ours for _, ours in wall) / min(bare for bare, _ in wall),
        "bare_seconds": statistics.median(bare for bare, _ in wall),
        "clx_seconds": statistics.median(ours for _, ours in wall),
        "difference": difference,
        "pairs": pairs,
    }
    show(
        name,
        f"bare {found['bare_seconds']:7.3f} s   clx {found['clx_seconds']:7.3f} s   {band(found)} (cpu "
        f"{found['cpu_ratio']:.3f}, best {found['best_ratio']:.3f})",
        judge(found, "ratio", case.limit),
    )
    return found


def timed(work: Work) -> tuple[float, float]:
    """Seconds on the clock and of the process's CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def disagreement(a: Tensor, b: Tensor) -> float:
    """The largest difference of two outcomes in units of their largest value; infinite where the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    a, b = a.double(), b.double()
    return float((a - b).abs().max() / a.abs().max().clamp(min=1e-12))


def spread(values: list[float], name: str = "ratio") -> Found:
    """Median, smallest and largest."""
    return {name: statistics.median(values), f"{name}_low": min(values), f"{name}_high": max(values)}


def band(found: Found, name: str = "ratio", unit: str = "") -> str:
    """The same for people."""
    return f"{name} {found[name]:.3f}{unit} [{found[f'{name}_low']:.3f}, {found[f'{name}_high']:.3f}]"


def judge(found: Found, name: str, limit: float | None) -> str:
    """Put limit and verdict into what was found; returns both for people."""
    if limit is None:
        return ""
    found |= {"limit": limit, "ok": found[name] <= limit}
    return f"limit {limit:.2f}  {'ok' if found['ok'] else 'MISS'}"


def show(name: str, text: str, verdict: str = "") -> None:
    """One line of the table, at once."""
    print(f"{name:22s} {text}   {verdict}".rstrip(), flush=True)


def weights(model: torch.nn.Module) -> Tensor:
    """Every parameter in one row, [P]."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def surroundings() -> Found:
    """The machine, the threads and the versions that the numbers belong to, and how busy the machine was."""
    known = machine()
    return {
        "cpu": known["cpu"],
        "cores": known["usable_cores"],
        "processor": known["processor"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
