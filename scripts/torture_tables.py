"""The tables of a torture: by strategy, by fault, and by the moment of the kills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from torture import Report

KINDS = {
    "check-\npoint": ("cut_checkpoint", "flip_byte", "empty_checkpoint", "delete_checkpoint"),
    "other\nfile": ("stray_files", "cut_status", "empty_status", "delete_status", "torn_metrics", "missing_result"),
    "stale\nowner": ("reused_pid", "other_host"),
    "signal": ("sigterm", "sigint"),
    "rival": ("rival",),
    "disk\nfull": ("full_disk",),
    "folder\ngone": ("read_only", "vanished_folder"),
}
EARLY = "before\nanything"  # was written
ENDS = ("identical", "different", "lost")
STARTS = {"resumed": "resumed", "started\nanew": "anew", "told\nto": "told to"}


def print_tables(reports: Sequence[Report], seconds: float) -> None:
    """All three, and the problems."""
    console = Console(width=None if Console().is_terminal else 180)
    for table in (by_strategy(reports), by_fault(reports), by_moment(reports)):
        console.print(table)
    disks = ", ".join(sorted({report.disk for report in reports}))
    looks = sum(report.counts["looks"] for report in reports)
    console.print(f"full disk by: {disks}; {looks} versions of files seen whole; {seconds:.0f} s")
    for problem in [problem for report in reports for problem in report.problems]:
        console.print(problem, markup=False, highlight=False)


def by_strategy(reports: Sequence[Report]) -> Table:
    """A line for each strategy, and their sum."""
    table = Table(title="Runs by strategy")
    names = ["runs", "kills", EARLY, *KINDS, *STARTS, *ENDS, "problems"]
    table.add_column("strategy", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    lines = {report.strategy: _line(report) for report in reports}
    total = sum(lines.values(), Counter())
    for strategy, line in lines.items():
        table.add_row(strategy, *(str(line[name]) for name in names), end_section=strategy == list(lines)[-1])
    table.add_row("all", *(str(total[name]) for name in names))
    return table


def _line(report: Report) -> Counter[str]:
    kinds = {kind: sum(report.faults.get(f, Counter())["times"] for f in faults) for kind, faults in KINDS.items()}
    starts = {name: report.counts[count] for name, count in STARTS.items()}
    early = report.moments["before anything"]
    ends = {name: report.counts[name] for name in ("runs", "kills", *ENDS)}
    return Counter({**ends, **kinds, **starts, EARLY: early, "problems": len(report.problems)})


def by_fault(reports: Sequence[Report]) -> Table:
    """What came after each fault: how the next start went, and the ends of the runs that it befell."""
    table = Table(title="By fault")
    table.add_column("fault", no_wrap=True)
    for name in ("times", *STARTS, *(f"runs\n{end}" for end in ENDS), "problems"):
        table.add_column(name, justify="right")
    total: dict[str, Counter[str]] = {}
    for report in reports:
        for fault, counts in report.faults.items():
            total.setdefault(fault, Counter()).update(counts)
    for fault, counts in sorted(total.items()):
        columns = ("times", *STARTS.values(), *ENDS, "problems")
        table.add_row(fault, *(str(counts[name]) for name in columns))
    return table


def by_moment(reports: Sequence[Report]) -> Table:
    """What the killed processes were at."""
    table = Table(title="Kills by moment")
    table.add_column("moment")
    table.add_column("kills", justify="right")
    for moment, count in sum((report.moments for report in reports), Counter()).most_common():
        table.add_row(moment, str(count))
    return table
