"""The events of a run, and what a logger is. Events carry plain numbers, never tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class RunStarted:
    """Training begins, or goes on at experience `first` after `total_step` steps.

    config: the whole resolved configuration, `choices` included; folder: the run's; empty and None from Python.
    """

    title: str
    num_experiences: int
    first: int = 0
    total_step: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def goes_on(self) -> bool:
        """Whether an earlier process told the beginning."""
        return self.first > 0 or self.total_step > 0


@dataclass(frozen=True)
class StepDone:
    """Some steps of a phase are done. terms: means since the last event; accuracy: of the last batch, or None."""

    experience: int
    phase: str
    epoch: int
    epochs: int
    step: int  # of the phase, counted from 1
    steps: int
    total_step: int  # of the run
    terms: dict[str, float] = field(default_factory=dict)
    accuracy: float | None = None


@dataclass(frozen=True)
class Evaluated:
    """Every measurable test set was evaluated after `experiences` whole experiences (and `epoch` epochs of the next
    one, where epoch is not None). None = not measured."""

    experiences: int
    accuracies: list[float | None]
    aware: list[float | None]
    total_step: int
    epoch: int | None = None


@dataclass(frozen=True)
class ExperienceDone:
    """An experience is trained, evaluated and stored; seconds: its training time."""

    experience: int
    num_experiences: int
    seconds: float
    accuracies: list[float | None]


@dataclass(frozen=True)
class RunFinished:
    """The run is over. metrics, task_aware: the summaries by name; matrix, task_aware_matrix: the accuracy matrices,
    row 0 included, None = not measured; cost: seconds, bytes and counts by name."""

    metrics: dict[str, float | None]
    matrix: list[list[float | None]]
    seconds: float
    task_aware: dict[str, float | None] = field(default_factory=dict)
    task_aware_matrix: list[list[float | None]] = field(default_factory=list)
    cost: dict[str, float] = field(default_factory=dict)


Event = RunStarted | StepDone | Evaluated | ExperienceDone | RunFinished


class Logger(Protocol):
    """Anything with on(event); close() is called at the end, also of a run that failed."""

    def on(self, event: Event) -> None: ...
    def close(self) -> None: ...
