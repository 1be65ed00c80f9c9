"""One training step. Zero-grad, backward, clipping, precision and stepping exist here alone."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from clx.regularizer.base import Regularizer
from clx.strategy.finetune import Finetune
from clx.types import Batch, Clock, Objective, Phase

IN_A_ROW = 50  # steps that are skipped before the run is given up
log = logging.getLogger("clx")


@dataclass(kw_only=True)
class Settings:
    """What a phase uses where it does not say otherwise, and what holds for all of them."""

    optimizer: Callable[..., torch.optim.Optimizer]
    scheduler: Callable[..., Any] | None
    epochs: int
    batch_size: int
    seed: int
    precision: str
    clip_norm: float | None
    max_steps: int | None  # of one phase
    on_nonfinite: Literal["stop", "skip"] = "stop"


class Step:
    """One training step, its parts bound once for the phase.

    terms: the last step's, by name; none where it was skipped, as skipped says.
    """

    def __init__(
        self,
        strategy: Finetune,
        regularizers: Mapping[str, Regularizer],
        phase: Phase,
        optimizer: torch.optim.Optimizer | None,
        settings: Settings,
    ) -> None:
        self.strategy, self.regularizers, self.optimizer = strategy, regularizers, optimizer
        self.observe = phase.observe or strategy.observe
        # Of the whole strategy, for gradients to be cleared: those outside the phase would accumulate.
        self.parameters = list(strategy.parameters())
        self.clip_norm = settings.clip_norm
        self.bfloat16 = settings.precision == "bfloat16"
        self.may_skip = settings.on_nonfinite == "skip"
        self.terms: dict[str, Tensor] = {}
        self.skipped = False
        self._in_a_row = 0

    def __call__(self, batch: Batch) -> Objective:
        strategy = self.strategy
        with self._precision():
            objective = self.observe(batch)
            terms = dict(objective.terms)
            for name, regularizer in self.regularizers.items():
                penalty = regularizer.penalty(strategy.model, batch, objective)
                if penalty is not None:
                    terms[name] = regularizer.weight * penalty
        for parameter in self.parameters:
            parameter.grad = None
        if terms:
            total(terms).backward()
        if self.may_skip and self._skip(terms, batch.clock):
            return objective
        strategy.after_backward(batch)
        for regularizer in self.regularizers.values():
            regularizer.after_backward(strategy.model, batch)
        if self.optimizer is not None and terms:
            if self.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(strategy.parameters(), self.clip_norm)
            self.optimizer.step()
        strategy.after_step(batch, objective)
        for regularizer in self.regularizers.values():
            regularizer.after_step(strategy.model, batch)
        self.terms = terms
        return objective

    def _skip(self, terms: Mapping[str, Tensor], clock: Clock) -> bool:
        """Whether this step is left out; its batch is then as if it had not come. Asks the device each time."""
        broken = not_finite(terms)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not broken and not bool(torch.nn.utils.get_total_norm(gradients).isfinite()):
            broken = "the gradient"
        self.skipped = bool(broken)
        self._in_a_row = self._in_a_row + 1 if self.skipped else 0
        if self.skipped:
            self.terms = {}
            text = f"not finite in {where(clock)}: {broken}"
            if self._in_a_row == IN_A_ROW:
                raise FloatingPointError(f"{IN_A_ROW} steps in a row were skipped; {text}; {REMEDY}")
            log.warning("step skipped, %s", text)
        return self.skipped

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.bfloat16:
            return torch.autocast(self.strategy.device.type, torch.bfloat16)
        return contextlib.nullcontext()


REMEDY = "lower optimizer.lr or set trainer.clip_norm"


def check_weights(strategy: Finetune, after: str) -> None:
    """Raise FloatingPointError where a weight has become infinite or not a number, whatever the loss was."""
    named = [(name, p.detach()) for name, p in strategy.named_parameters() if p.numel()]
    if not named:
        return
    # The extremes, which NaN passes on to: many times as fast as looking at every value, and one wait for the device.
    extremes = torch.stack([torch.stack(p.aminmax()).float() for _, p in named])
    broken = (~extremes.isfinite().all(1)).nonzero().flatten().tolist()
    if broken:
        raise FloatingPointError(f"{named[broken[0]][0]} is not finite after {after}; {REMEDY}")


def not_finite(terms: Mapping[str, Tensor]) -> str:
    """All terms by name and value where one of them is not finite; else nothing."""
    values = {name: float(value.detach()) for name, value in terms.items()}
    if all(abs(value) < float("inf") for value in values.values()):
        return ""
    return ", ".join(f"{name} = {value:.6g}" for name, value in values.items())


def where(clock: Clock) -> str:
    """A step in words."""
    return f"experience {clock.experience}, phase {clock.phase}, epoch {clock.epoch}, step {clock.step}"


def total(terms: dict[str, Tensor]) -> Tensor:
    """The sum of all terms."""
    values = iter(terms.values())
    summed = next(values)
    for value in values:
        summed = summed + value
    return summed
