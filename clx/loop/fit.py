"""Gradient descent over one phase. Zero-grad, backward, clipping, precision and stepping exist here alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from clx.data.batches import batches
from clx.logger.base import StepDone
from clx.loop.optimizer_memory import OptimizerMemory
from clx.regularizer.base import Regularizer
from clx.runtime import seed as seeding
from clx.runtime.call import call_offering
from clx.strategy.finetune import Finetune
from clx.types import Batch, Clock, Experience, Objective, Phase

LOG_EVERY = 50  # steps between two StepDone events
Position = dict[str, Any]  # where a phase stands: epoch, step, samples, and the states of what lives as long as it does


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


@dataclass(kw_only=True)
class Hooks:
    """Whom a phase calls back: after some steps, after each step, after each epoch; stop() is asked each step, and
    due(), whether pause(position) wants to hear now where the phase stands."""

    on_event: Callable[[StepDone], None]
    after_step: Callable[[], None]
    after_epoch: Callable[[int], None]
    stop: Callable[[], bool]
    due: Callable[[], bool] = lambda: False
    pause: Callable[[Position], None] = lambda _: None
    total_step: int = 0  # steps of the run so far; fit counts on


def fit(
    strategy: Finetune,
    regularizers: Mapping[str, Regularizer],
    experience: Experience,
    phase: Phase,
    *,
    settings: Settings,
    hooks: Hooks,
    memory: OptimizerMemory | None,
    position: Position | None = None,
) -> int:
    """Train one phase; returns the samples trained on. memory: keeps the optimizer's state, None = it starts anew.

    position: what hooks.pause was told, to go on from there; strategy, regularizers, buffer and random generators are
    then as they were at that moment.
    """
    if not len(phase.data):
        return 0
    epochs = settings.epochs if phase.epochs is None else phase.epochs
    batch_size = phase.batch_size or settings.batch_size
    per_epoch = -(-len(phase.data) // batch_size)
    steps = min(epochs * per_epoch, settings.max_steps or epochs * per_epoch)
    optimizer, scheduler = _optimizer(strategy, experience, phase, settings, epochs, steps)
    if memory is not None and optimizer is not None and position is None:
        memory.restore(phase.name, optimizer, strategy)
    step = Step(strategy, _active(regularizers, phase), phase, optimizer, settings)
    meter, count, done, first = Meter(), 0, 0, 0
    if position is not None:
        first, done, count = position["epoch"], position["step"], position["samples"]
        _go_on(position, meter, optimizer, scheduler)
    for epoch in range(first, -(-steps // per_epoch)):
        strategy.train()
        clock = Clock(experience.index, phase.name, epoch, epoch * per_epoch, steps)
        for batch in _epoch(strategy, phase, batch_size, settings.seed, clock, skip=done - epoch * per_epoch):
            objective = step(batch)
            meter.add(step.terms)
            count += len(batch)
            hooks.total_step += 1
            done = batch.clock.step + 1
            hooks.after_step()
            if done % LOG_EVERY == 0 or done % per_epoch == 0 or done == steps:
                hooks.on_event(meter.event(batch, objective, epochs, hooks.total_step))
            if hooks.due():
                hooks.pause(_position(epoch, done, count, meter, optimizer, scheduler))
            if hooks.stop():
                break
        if scheduler is not None:
            scheduler.step()
        if hooks.stop():
            break
        hooks.after_epoch(epoch)
    if memory is not None and optimizer is not None:
        memory.save(phase.name, optimizer, strategy)
    return count


def _optimizer(
    strategy: Finetune, experience: Experience, phase: Phase, settings: Settings, epochs: int, steps: int
) -> tuple[torch.optim.Optimizer | None, Any]:
    groups = phase.parameters if phase.parameters is not None else strategy.get_parameters(experience)
    groups = [group for group in (dict(g, params=list(g["params"])) for g in groups) if group["params"]]
    if not groups:  # closed-form methods have nothing to descend on
        return None, None
    optimizer = (phase.optimizer or settings.optimizer)(groups)
    build = phase.scheduler or settings.scheduler
    if build is None:
        return optimizer, None
    return optimizer, call_offering(build, optimizer, T_max=epochs, epochs=epochs, steps=steps)


def _active(regularizers: Mapping[str, Regularizer], phase: Phase) -> dict[str, Regularizer]:
    regularize = phase.regularize if phase.regularize is not None else phase.observe is None
    return {name: r for name, r in regularizers.items() if r.weight > 0} if regularize else {}


def _go_on(position: Position, meter: Meter, optimizer: Any, scheduler: Any) -> None:
    meter.load_state(position["meter"])
    for part, name in ((optimizer, "optimizer"), (scheduler, "scheduler")):
        if part is not None:
            part.load_state_dict(position[name])


def _position(epoch: int, done: int, count: int, meter: Meter, optimizer: Any, scheduler: Any) -> Position:
    return {
        "epoch": epoch,
        "step": done,
        "samples": count,
        "meter": meter.state(),
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
    }


def _epoch(
    strategy: Finetune, phase: Phase, batch_size: int, seed: int, clock: Clock, *, skip: int = 0
) -> Iterator[Batch]:
    """The batches of one epoch, in an order that depends on (seed, experience, phase, epoch) alone, without the first
    skip of them and those after the phase's last step."""
    draw = seeding.generator("order", seed, clock.experience, clock.phase, clock.epoch)
    order = torch.randperm(len(phase.data), generator=draw)
    transform = phase.transform or strategy.train_transform
    rest = order[skip * batch_size : (clock.steps - clock.step) * batch_size]
    clock = replace(clock, step=clock.step + skip)
    return (
        batches(phase.data, batch_size, transform, strategy.device, order=rest, clock=clock) if len(rest) else iter(())
    )


class Step:
    """One training step, its parts bound once for the phase. `terms` holds the last step's, by name."""

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
        self.terms: dict[str, Tensor] = {}

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
            _total(terms).backward()
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

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.bfloat16:
            return torch.autocast(self.strategy.device.type, torch.bfloat16)
        return contextlib.nullcontext()


def _total(terms: dict[str, Tensor]) -> Tensor:
    values = iter(terms.values())
    total = next(values)
    for value in values:
        total = total + value
    return total


class Meter:
    """Sums the loss terms on the device and reads them only when somebody is told."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            so_far = self.sums.get(name)
            self.sums[name] = value.detach() if so_far is None else so_far + value.detach()
            self.counts[name] = self.counts.get(name, 0) + 1

    def state(self) -> dict[str, Any]:
        """The sums so far, for a checkpoint."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what state() gave."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])

    def event(self, batch: Batch, objective: Objective, epochs: int, total_step: int) -> StepDone:
        """The means since the last event. Raises FloatingPointError where a term is not finite."""
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        clock = batch.clock
        broken = [f"{name} = {value}" for name, value in means.items() if not abs(value) < float("inf")]
        if broken:
            raise FloatingPointError(
                f"the loss is not finite: {', '.join(broken)} in experience {clock.experience}, phase {clock.phase}, "
                f"epoch {clock.epoch}, step {clock.step}; lower optimizer.lr or set trainer.clip_norm"
            )
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
