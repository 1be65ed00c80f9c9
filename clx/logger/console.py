"""Progress for people: a live line while a run trains, the matrix when it is done."""

from __future__ import annotations

import os
import sys

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from clx.logger.base import Evaluated, Event, ExperienceDone, RunFinished, RunStarted, StepDone


class Terminal(RichConsole):
    """Rich's console, but one whose reader may go away."""

    def on_broken_pipe(self) -> None:
        """Be silent: it is no reason to stop training."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Console:
    """Shows experience, epoch, loss, accuracy and the time left; prints plain lines where there is no terminal.

    live: show the moving bar on a terminal.
    """

    def __init__(self, live: bool = True) -> None:
        self.console = Terminal(soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[status]}"))
        self.progress = Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True)
        self.live = live and self.console.is_terminal
        self.task: TaskID | None = None
        self.num_experiences = 0

    def on(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._start(event)
        elif isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, ExperienceDone):
            self._experience(event)
        elif isinstance(event, RunFinished):
            self.close()
            self.console.print(matrix_table(event.matrix))
        else:
            assert isinstance(event, Evaluated)

    def close(self) -> None:
        if self.task is not None:
            self.progress.stop()

    def _start(self, event: RunStarted) -> None:
        self.num_experiences = event.num_experiences
        where = f"after {event.first} of {event.num_experiences} experiences, step {event.total_step}"
        going_on = f", going on {where}" if event.goes_on else ""
        self.console.print(f"[bold]{escape(event.title)}[/bold]{going_on}", highlight=False)
        if self.live:
            self.task = self.progress.add_task("", total=event.num_experiences, completed=event.first, status="")
            self.progress.start()

    def _step(self, event: StepDone) -> None:
        if self.task is None:
            return
        terms = "  ".join(f"{name} {value:.3f}" for name, value in event.terms.items())
        accuracy = "" if event.accuracy is None else f"  accuracy {event.accuracy:.2f}"
        self.progress.update(
            self.task,
            completed=event.experience + event.step / max(event.steps, 1),
            description=f"experience {event.experience + 1}/{self.num_experiences}",
            status=f"{event.phase}  epoch {event.epoch + 1}/{event.epochs}  {terms}{accuracy}",
        )

    def _experience(self, event: ExperienceDone) -> None:
        known = [value for value in event.accuracies if value is not None]
        mean = f"{sum(known) / len(known):.3f}" if known else "-"
        self.console.print(
            f"experience {event.experience + 1}/{event.num_experiences}: "
            f"average accuracy {mean} on the {len(known)} test sets measured, trained in {event.seconds:.1f} s",
            highlight=False,
        )
        if self.task is not None:
            self.progress.update(self.task, completed=event.experience + 1)


def matrix_table(matrix: list[list[float | None]]) -> Table:
    """The accuracy matrix as people draw it: a row after each experience, row 0 before any."""
    table = Table(title="accuracy on the test set of each experience", title_justify="left")
    table.add_column("after")
    for column in range(len(matrix[0])):
        table.add_column(str(column + 1), justify="right")
    table.add_column("mean", justify="right", style="bold")
    for after, row in enumerate(matrix):
        known = [value for value in row if value is not None]
        if not known:
            continue
        cells = ["-" if value is None else f"{value:.3f}" for value in row]
        table.add_row("start" if after == 0 else str(after), *cells, f"{sum(known) / len(known):.3f}")
    return table
