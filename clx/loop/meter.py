"""What the loss terms of the last steps were, read only when somebody is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from clx.logger.base import StepDone
from clx.loop.step import REMEDY, not_finite, where
from clx.types import Batch, Clock, Objective


class Meter:
    """Keeps the loss terms on the device: reading one waits for the device."""

    def __init__(self) -> None:
        self.steps: dict[str, list[int]] = {}
        self.values: dict[str, list[Tensor]] = {}

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        """step: of the phase."""
        for name, value in terms.items():
            self.steps.setdefault(name, []).append(step)
            self.values.setdefault(name, []).append(value.detach())

    def state(self) -> dict[str, Any]:
        """What was added since the last event, for a checkpoint."""
        values = {name: torch.stack(values) for name, values in self.values.items()}
        return {"steps": {name: list(steps) for name, steps in self.steps.items()}, "values": values}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what state() gave."""
        self.steps = {name: list(steps) for name, steps in state["steps"].items()}
        self.values = {name: list(values.unbind()) for name, values in state["values"].items()}

    @classmethod
    def beside(cls, meters: Sequence[Meter]) -> Meter:
        """Those of several runs as one, to which their terms are then added side by side, each [runs]."""
        made = cls()
        made.steps = meters[0].steps
        made.values = {
            name: list(torch.stack([torch.stack(meter.values[name]) for meter in meters], 1).unbind())
            for name in meters[0].values
        }
        return made

    def of(self, number: int) -> Meter:
        """Of one of the runs whose terms were added side by side."""
        own = Meter()
        own.steps = {name: list(steps) for name, steps in self.steps.items()}
        own.values = {name: list(torch.stack(values)[:, number].unbind()) for name, values in self.values.items()}
        return own

    def check(self, clock: Clock) -> dict[str, float]:
        """The means since the last event. Raises FloatingPointError where a term was not finite, naming the first
        step at which it was, with all of its terms. clock: of a step of the same epoch and phase."""
        stacked = {name: torch.stack(values) for name, values in self.values.items()}
        means = {name: float(values.double().mean()) for name, values in stacked.items()}
        if not_finite({name: torch.tensor(mean) for name, mean in means.items()}):
            bad = {name: (~values.isfinite()).nonzero() for name, values in stacked.items()}
            step = min(self.steps[name][int(found[0])] for name, found in bad.items() if len(found))
            at = {n: stacked[n][self.steps[n].index(step)] for n in stacked if step in self.steps[n]}
            place = where(replace(clock, step=step))
            raise FloatingPointError(
                f"the loss is not finite in {place}: {not_finite(at)}; {REMEDY}, or leave such steps out with "
                "trainer.on_nonfinite=skip"
            )
        return means

    def event(self, batch: Batch, objective: Objective, epochs: int, total_step: int) -> StepDone:
        """The means since the last event, which check() checks."""
        clock = batch.clock
        means = self.check(clock)
        self.steps, self.values = {}, {}
        accuracy = None
        if objective.logits is not None:
            accuracy = float((objective.logits.argmax(1) == batch.y).float().mean())
        return StepDone(
            experience=clock.experience,
            phase=clock.phase,
            epoch=clock.epoch,
            epochs=epochs,
            step=clock.step + 1,
            steps=clock.steps,
            total_step=total_step,
            terms=means,
            accuracy=accuracy,
        )
