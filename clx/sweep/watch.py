"""Watching the folders of a sweep from outside, whatever launcher fills them."""

from __future__ import annotations

import csv
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from clx.store.files import read_json
from clx.store.printable import printable
from clx.store.run import read_status

OVER = ("finished", "failed", "skipped", "interrupted")
MOST_ROWS = 16  # running runs that are shown
SECONDS = 0.5  # between two looks


class Watch:
    """While entered: a line for each run that ends; on a terminal, a live table of those that run.

    folders: of all runs of the sweep. earlier: those that had finished before. root: left out of what is shown.
    say: the lines too.
    """

    def __init__(self, folders: Sequence[Path], earlier: Sequence[Path], root: Path, *, say: bool = True) -> None:
        # Bound to the stream of now: jobs of this very process have theirs redirected while they run.
        self.console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
        self.root, self.total, self.say = root, len(folders), say
        known = set(earlier)
        running = {folder for folder in folders if read_status(folder)["state"] == "running"}  # by somebody else
        self.before = {f: None if f in running else stamp(f) for f in folders if f not in known}
        self.ended = len(earlier)
        self.counts = {"finished": len(earlier)} if earlier else {}
        self.running: dict[Path, dict[str, Any]] = {}
        columns = (TextColumn("sweep"), BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("{task.description}"))
        self.progress = Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        self.task = self.progress.add_task("", total=self.total, completed=self.ended)
        self.live = Live(
            get_renderable=self._table,
            console=self.console,
            transient=True,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="clx-watch", daemon=True)

    def __enter__(self) -> Watch:
        if self.console.is_terminal:
            self.live.start()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        if self.console.is_terminal:
            self.live.stop()

    def _watch(self) -> None:
        while not self._stop.wait(SECONDS):
            self._look()

    def _look(self) -> None:
        self.running = {}
        for folder, before in list(self.before.items()):
            if stamp(folder) == before:
                continue
            status = read_status(folder)
            if status["state"] == "running":
                self.running[folder] = status
            elif status["state"] in OVER:
                del self.before[folder]
                self._end(folder, status)
        shown = [f"{count} {state}" for state, count in sorted(self.counts.items())]
        self.progress.update(
            self.task, completed=self.ended, description=", ".join([*shown, f"{len(self.running)} running"])
        )

    def _end(self, folder: Path, status: dict[str, Any]) -> None:
        self.ended += 1
        state = status["state"]
        self.counts[state] = self.counts.get(state, 0) + 1
        if not self.say:
            return
        what = _result(folder) if state == "finished" else str(status["reason"] or "").split("\n", 1)[0]
        style = {"finished": "green", "skipped": "yellow"}.get(state, "red")
        place = f"[{self.ended:>{len(str(self.total))}}/{self.total}]"
        self.console.print(place, state, printable(self._name(folder)), printable(what), style=style, markup=False)

    def _name(self, folder: Path) -> str:
        return str(folder.relative_to(self.root) if folder.is_relative_to(self.root) else folder)

    def _table(self) -> Group:
        table = Table(box=None, show_header=False, pad_edge=False)
        running = list(self.running.items())
        for folder, status in running[:MOST_ROWS]:
            table.add_row(
                Text(f"  {printable(self._name(folder))}"), f"experience {_experiences(folder) + 1}", _since(status)
            )
        if len(running) > MOST_ROWS:
            table.add_row(f"  and {len(running) - MOST_ROWS} more")
        return Group(self.progress, table)


def stamp(folder: Path) -> int | None:
    """Changes whenever the run's state is written."""
    try:
        return (folder / "status.json").stat().st_mtime_ns
    except OSError:
        return None


def _result(folder: Path) -> str:
    try:
        result = read_json(folder / "result.json")
        value, seconds = result["metrics"]["average_accuracy"], result["cost"]["total_seconds"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f"{'not measured' if value is None else f'average accuracy {value:.4f}'}, {seconds:.1f} s"


def _experiences(folder: Path) -> int:
    try:
        with (folder / "matrix.csv").open(newline="") as file:
            return max((int(row["after"]) for row in csv.DictReader(file)), default=0)
    except (OSError, KeyError, ValueError, TypeError):
        return 0


def _since(status: dict[str, Any]) -> str:
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(status["started"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return ""
    return f"{max(seconds, 0):.0f} s"


def wait_for(folders: Sequence[Path]) -> None:
    """Return when none of the folders is being run by anybody."""
    while any(read_status(folder)["state"] == "running" for folder in folders):
        time.sleep(SECONDS)
