"""Completing a set of jobs: what is missing, failed or interrupted is run, and what goes wrong stops nobody else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from clx.jobs import Job
from clx.runtime.signals import terminable
from clx.store.compare import Group, group
from clx.store.identity import digest
from clx.store.printable import printable
from clx.store.records import read_all
from clx.store.run import read_status
from clx.store.table import cells, certainty, rich_table
from clx.sweep.launch import Launcher
from clx.sweep.watch import Watch, stamp, wait_for

METRICS = ("average_accuracy", "forgetting")
LONGEST_NAME = 80  # characters of a report's file, its digest apart


def complete(jobs: Sequence[Job], launch: Launcher, root: Path, *, say: bool = True) -> bool:
    """Run what is not finished, each folder once; False where a signal ended it.

    root: of all folders. say: a line for each run that ends.
    """
    each = list({job.folder: job for job in jobs}.values())
    earlier = [job.folder for job in each if job.finished]
    if earlier and say:
        print(f"{len(earlier)} of {len(each)} runs are finished already; rerun=true runs them again", flush=True)
    try:
        with terminable(), Watch([job.folder for job in each], earlier, root, say=say):
            _launch_all([job for job in each if job.folder not in set(earlier)], launch)
    except KeyboardInterrupt:
        return False
    return True


def _launch_all(todo: list[Job], launch: Launcher) -> None:
    before = {job.folder: stamp(job.folder) for job in todo}
    while todo:
        # What a process of an earlier sweep still works on is its own; we wait for it.
        elsewhere = {job.folder for job in todo if _state(job) == "running"}
        mine = [job for job in todo if job.folder not in elsewhere]
        _try(launch, mine)
        wait_for([job.folder for job in todo])
        # Where a process died, it may have taken others along: each once more, on its own.
        for job in mine:
            if _state(job) == "interrupted" and stamp(job.folder) != before[job.folder]:
                _try(launch, [job])
        left = [job for job in todo if stamp(job.folder) == before[job.folder] or _state(job) == "running"]
        left += [job for job in todo if job.folder in elsewhere and _state(job) == "interrupted"]
        if len(left) == len(todo) == len(mine):
            return  # it cannot launch at all
        todo = left


def _state(job: Job) -> str:
    return str(read_status(job.folder)["state"])


def _try(launch: Launcher, jobs: list[Job]) -> None:
    if not jobs:
        return
    try:
        launch(jobs)
    except Exception as error:  # noqa: BLE001 - a worker died; what it leaves undone is seen by its folders
        print(f"clx: the launcher stopped: {_first_line(error)}", file=sys.stderr, flush=True)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


def sum_up(folders: Sequence[Path], root: Path) -> None:
    """How many runs ended how, which did not finish and why; the comparison of those that did, and a page about it."""
    status = {folder: read_status(folder) for folder in dict.fromkeys(folders)}
    counts: dict[str, int] = {}
    for entry in status.values():
        counts[entry["state"]] = counts.get(entry["state"], 0) + 1
    print("\nsweep: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    for folder, entry in status.items():
        if entry["state"] != "finished":
            reason = str(entry["reason"] or "").splitlines()
            print(f"  {entry['state']}: {printable(folder)}  {printable(reason[0]) if reason else ''}")
    records, _ = read_all(folder for folder, entry in status.items() if entry["state"] == "finished")
    if records:
        keys, groups = group(records, None, METRICS[0])
        width = None if sys.stdout.isatty() else 240
        console = Console(width=width)
        console.print(rich_table(*cells(keys, groups, METRICS)))
        for title, header, rows in certainty(keys, groups, METRICS[0]):
            console.print(rich_table(header, rows, title))
        left_out = [(f, f"{e['state']}: {e['reason'] or ''}") for f, e in status.items() if e["state"] != "finished"]
        print(_report(root, keys, groups, left_out), flush=True)


def _report(root: Path, keys: list[str], groups: list[Group], left_out: list[tuple[Path, str]]) -> str:
    """Write the page about a sweep; where it lies, or why there is none."""
    from clx.store.report import write_report  # noqa: PLC0415 - after the runs, not before

    names = [f"{'+'.join(sorted({g.benchmark for g in groups}))}", f"{'+'.join(sorted(_strategies(groups)))}"]
    folders = sorted(str(r.folder) for g in groups for r in g.records) + sorted(str(f) for f, _ in left_out)
    title = "-".join(names)[:LONGEST_NAME]
    place = root / "reports" / f"{title}-{digest({'folders': folders})}.html"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_report(place, keys, groups, METRICS, left_out, f"Sweep of {' on '.join(reversed(names))}")
    except (ImportError, OSError) as error:
        return f"no report: {error}"
    return f"report: {place}"


def _strategies(groups: Sequence[Group]) -> set[str]:
    return {record.strategy for entry in groups for record in entry.records}
