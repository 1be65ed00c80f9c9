"""A run as a course: it halts before each phase that is to be fitted, so that several runs can do that together."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from clx.loop.fit import Hooks, Position
    from clx.loop.trainer import Trainer
    from clx.types import Experience, Phase

Result = TypeVar("Result")


@dataclass(kw_only=True, eq=False)
class Fitting:
    """A phase that a trainer is about to fit: number `number` of its experience, from `position` on where that is set.

    Called, it returns the samples trained on: by itself, or what `outcome` says where somebody has fitted it already;
    an exception there is raised.
    """

    trainer: Trainer
    experience: Experience
    phase: Phase
    number: int
    hooks: Hooks
    position: Position | None = None
    outcome: int | BaseException | None = None

    def __call__(self) -> int:
        from clx.loop.fit import fit  # noqa: PLC0415 - torch, which a course that has nothing to fit does not need

        if isinstance(self.outcome, BaseException):
            raise self.outcome
        if self.outcome is not None:
            return self.outcome
        trainer = self.trainer
        return fit(
            trainer.strategy,
            dict(trainer.regularizers.items()),  # type: ignore[arg-type]  # ModuleDict forgets what it holds
            self.experience,
            self.phase,
            settings=trainer.settings,
            hooks=self.hooks,
            memory=trainer.memory,
            position=self.position,
        )


Course = Generator[Fitting, None, Any]


def alone(course: Generator[Fitting, None, Result]) -> Result:
    """Go through a course by itself, each phase being fitted where it halts; returns what the course returns."""
    while True:
        try:
            next(course)
        except StopIteration as end:
            result: Any = end.value
            return result


class ShareClock:
    """Seconds of one of several runs that share a processor, counted on from now: at `rate` of the real ones.

    rate: 1 while the run has its turn, 0 while others do, 1 / n while n of them are at it together.
    """

    def __init__(self) -> None:
        self._since = self._value = time.perf_counter()
        self._rate = 0.0

    def __call__(self) -> float:
        return self._value + (time.perf_counter() - self._since) * self._rate

    def run_at(self, rate: float) -> None:
        """From now on."""
        now = time.perf_counter()
        self._value += (now - self._since) * self._rate
        self._since, self._rate = now, rate
