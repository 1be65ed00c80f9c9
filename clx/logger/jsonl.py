"""A run as JSON lines: one event, one line, for scripts of one's own."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from clx.logger.base import Evaluated, ExperienceDone, RunStarted, StepDone
from clx.logger.tracker import State, Told, Tracker, hyper_parameters


class JSONLines(Tracker):
    """Writes lines such as {"event": "step", "time": ..., "experience": 0, "total_step": 8, "loss/ce": 0.5}.

    The events are started, step, evaluated, experience, finished, failed and killed; time is in s since 1970, UTC.
    Accuracies are fractions in [0, 1], null = not measured (in the matrices; elsewhere such a value has no entry).
    A run that goes on drops the lines of what it repeats. path: a file for this run alone; None = events.jsonl in
    the run's folder. Raises ValueError where the file holds something else.
    """

    def __init__(self, path: str | None) -> None:
        super().__init__(path)
        self._file: TextIO | None = None

    def _begin(self, event: RunStarted) -> None:
        path = self._place("events.jsonl")
        folder = None if event.folder is None else str(event.folder.absolute())
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if self.path is not None:
                _refuse_other(path, folder)
            _forget(path, event)
        self._file = path.open("a", encoding="utf-8")
        self._line(
            "started",
            experience=event.first,
            total_step=event.total_step,
            title=event.title,
            num_experiences=event.num_experiences,
            folder=folder,
            config=hyper_parameters(event.config),
        )

    def _record(self, event: Told, values: Mapping[str, float]) -> None:
        if isinstance(event, StepDone):
            position = {"experience": event.experience, "phase": event.phase, "epoch": event.epoch}
            self._line("step", **position, total_step=event.total_step, **values)
        elif isinstance(event, Evaluated):
            # Before training, in the middle of an experience, or after one: each line names the one it is about.
            inside = event.epoch is not None or event.experiences == 0
            position = {"experience": event.experiences - (not inside), "epoch": event.epoch}
            self._line("evaluated", **position, experiences=event.experiences, total_step=event.total_step, **values)
        elif isinstance(event, ExperienceDone):
            self._line("experience", experience=event.experience, total_step=self.step, seconds=event.seconds)
        else:
            matrices = {"matrix": event.matrix, "task_aware_matrix": event.task_aware_matrix}
            self._line("finished", total_step=self.step, **values, **matrices)

    def _end(self, state: State) -> None:
        assert self._file is not None
        if state != "finished":
            self._line(state, total_step=self.step)
        self._file.close()
        self._file = None

    def _line(self, event: str, **fields: Any) -> None:
        assert self._file is not None
        line = {"event": event, "time": round(time.time(), 3)} | fields
        self._file.write(json.dumps(line, default=str) + "\n")
        self._file.flush()  # a run that dies leaves whole lines


def _refuse_other(path: Path, folder: str | None) -> None:
    with path.open(encoding="utf-8") as file:
        first = _parse(file.readline())
    if path.stat().st_size and (first is None or first.get("event") != "started" or first.get("folder") != folder):
        raise ValueError(f"path {path} holds something other than this run; give each run a file of its own")


def _forget(path: Path, event: RunStarted) -> None:
    """Drop the lines of what comes again, how the run ended, and a line that was cut off."""
    kept = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            told = _parse(line) or {}
            experience, step = told.get("experience"), told.get("total_step")
            if experience is None or not event.goes_on:
                continue
            if experience < event.first or (
                experience == event.first and step is not None and step <= event.total_step
            ):
                kept.append(line)
    spare = path.with_name(f".{path.name}.new")
    spare.write_text("".join(kept), encoding="utf-8")
    spare.replace(path)  # at once: what was recorded survives an interruption here


def _parse(line: str) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except json.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None
