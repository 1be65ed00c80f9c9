"""What the trackers share: events become numbers under the same names in each of them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from clx.logger.base import Evaluated, Event, ExperienceDone, RunFinished, RunStarted, StepDone

State = Literal["finished", "failed", "killed"]
Told = StepDone | Evaluated | ExperienceDone | RunFinished


class Tracker:
    """A logger that keeps a run's hyper-parameters, curves, final metrics, cost and accuracy matrix somewhere.

    A subclass says where: `_begin` opens the tracker's run, `_record` adds the numbers of an event, `_end` closes it
    as finished, failed (by an error) or killed (by a signal). path: where it writes; None = in the run's folder.
    """

    def __init__(self, path: str | None) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self.step = 0  # of the run, at the last event that has one
        self.folder: Path | None = None  # the run's
        self.open = False
        self._announced = False
        self._finished = False

    def on(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._start(event)
            self._announced = True
            return
        if not self.open:  # a Trainer on its own does not say that it begins
            self._start(RunStarted("clx", 0))
        if isinstance(event, StepDone | Evaluated):
            self.step = event.total_step
        self._record(event, numbers(event))
        self._finished = isinstance(event, RunFinished)

    def close(self) -> None:
        if self.open:
            self.open = False
            self._end(self._state())

    def _start(self, event: RunStarted) -> None:
        self.close()
        self.step, self.folder = event.total_step, event.folder
        self._finished = self._announced = False
        self._begin(event)
        self.open = True

    def _state(self) -> State:
        """How the run ended. close() is called while its exception is on the way up, if there is one."""
        error = sys.exc_info()[1]
        if self._finished or (error is None and not self._announced):
            return "finished"
        return "killed" if isinstance(error, KeyboardInterrupt) else "failed"

    def _place(self, name: str) -> Path:
        """Where to write: path, else `name` in the run's folder. Raises ValueError where there is neither."""
        if self.path is not None:
            return self.path.absolute()
        if self.folder is None:
            raise ValueError("path None: this run has no folder to write into; give the logger a path")
        return self.folder.absolute() / name

    def _matrix_picture(self) -> Path | None:
        """The picture of the accuracy matrix, which a run with a folder has drawn before it is finished."""
        picture = None if self.folder is None else self.folder.absolute() / "matrix.png"
        return picture if picture is not None and picture.is_file() else None

    def _begin(self, event: RunStarted) -> None:
        raise NotImplementedError

    def _record(self, event: Told, values: Mapping[str, float]) -> None:
        raise NotImplementedError

    def _end(self, state: State) -> None:
        raise NotImplementedError


def numbers(event: Event) -> dict[str, float]:
    """The numbers of an event by name: loss/<term>, accuracy/<test set>, metrics/<name>. What was not measured, or is
    not finite, is left out."""
    return {name: float(value) for name, value in _named(event) if value is not None and math.isfinite(value)}


def _named(event: Event) -> Iterator[tuple[str, float | None]]:
    if isinstance(event, StepDone):
        yield from _under("loss", event.terms)
        yield "train_accuracy", event.accuracy
    elif isinstance(event, Evaluated):
        for group, values in (("accuracy", event.accuracies), ("task_aware_accuracy", event.aware)):
            yield from _under(group, dict(enumerate(values)))
            known = [value for value in values if value is not None and math.isfinite(value)]
            yield f"{group}/mean", sum(known) / len(known) if known else None
    elif isinstance(event, RunFinished):
        for group, summary in (("metrics", event.metrics), ("task_aware", event.task_aware), ("cost", event.cost)):
            yield from _under(group, summary)


def _under(group: str, values: Mapping[Any, float | None]) -> Iterator[tuple[str, float | None]]:
    for name, value in values.items():
        yield f"{group}/{name}", value


def hyper_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of a run's configuration, without what only says how it is told and built."""
    return {
        key: value
        for key, value in _leaves(config)
        if key.split(".")[0] != "logger" and key.rsplit(".", 1)[-1] not in ("_partial_", "_convert_")
    }


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def as_text(value: Any) -> str:
    """A hyper-parameter for trackers that know text alone: texts as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def run_name(event: RunStarted) -> str:
    """The name that a person gave the run, else its title."""
    return event.config.get("name") or event.title
