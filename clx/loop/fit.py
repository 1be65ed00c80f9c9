"""Gradient descent over one phase, step by step; what one step is: step.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from clx.data.batches import batches
from clx.logger.base import StepDone
from clx.loop.meter import Meter
from clx.loop.optimizer_memory import OptimizerMemory
from clx.loop.step import Settings, Step, check_weights
from clx.model.frozen import Frozen, Repeats
from clx.regularizer.base import Regularizer
from clx.runtime import seed as seeding
from clx.runtime.call import call_offering
from clx.runtime.optimizer import fast
from clx.strategy.finetune import Finetune
from clx.types import Batch, Clock, Experience, Phase

LOG_EVERY = 50  # steps between two StepDone events
Position = dict[str, Any]  # where a phase stands: epoch, step, samples, and the states of what lives as long as it does


def nothing(*_: Any) -> None:
    """A hook that nobody has set."""


@dataclass(frozen=True)
class Plan:
    """How long a phase is: epochs as asked for, samples of a batch, steps of an epoch, steps of the whole phase."""

    epochs: int
    batch_size: int
    per_epoch: int
    steps: int

    @classmethod
    def of(cls, phase: Phase, settings: Settings) -> Plan:
        """The plan of a phase that has samples."""
        epochs = settings.epochs if phase.epochs is None else phase.epochs
        batch_size = phase.batch_size or settings.batch_size
        per_epoch = -(-len(phase.data) // batch_size)
        return cls(epochs, batch_size, per_epoch, min(epochs * per_epoch, settings.max_steps or epochs * per_epoch))

    @property
    def passes(self) -> int:
        """Epochs that are begun."""
        return -(-self.steps // self.per_epoch)

    def clock(self, experience: int, phase: str, epoch: int) -> Clock:
        """Of the epoch's first step."""
        return Clock(experience, phase, epoch, epoch * self.per_epoch, self.steps)

    def ends_epoch(self, done: int) -> bool:
        """Whether an epoch, or the phase, is over after that many steps."""
        return done % self.per_epoch == 0 or done == self.steps


@dataclass(kw_only=True)
class Hooks:
    """Whom a phase calls back: after some steps, after each step, after each epoch; stop() is asked each step, and
    due(ended), whether pause(position) wants to hear now where the phase stands; ended: an epoch, with that step."""

    on_event: Callable[[StepDone], None]
    stop: Callable[[], bool]
    after_step: Callable[[], None] = nothing
    after_epoch: Callable[[int], None] = nothing
    due: Callable[[bool], bool] = lambda _: False
    pause: Callable[[Position], None] = lambda _: None
    total_step: int = 0  # steps of the run so far; fit counts on
    skipped_steps: int = 0  # the same, of those whose loss or gradient was not finite


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

    position: what hooks.pause was told, to go on from there; everything that training changes is then as it was.
    """
    if not len(phase.data):
        return 0
    plan = Plan.of(phase, settings)
    optimizer, scheduler = make_optimizer(parameter_groups(strategy, experience, phase), phase, settings, plan)
    if memory is not None and optimizer is not None and position is None:
        memory.restore(phase.name, optimizer, strategy)
    step = Step(strategy, active(regularizers, phase), phase, optimizer, settings)
    meter, teachers = Meter(), asked_once(strategy, step.regularizers, phase, plan)
    first, done, count = go_on(position, meter, optimizer, scheduler)
    for epoch in range(first, plan.passes):
        strategy.train()
        clock = plan.clock(experience.index, phase.name, epoch)
        for batch in epoch_batches(strategy, phase, plan, settings.seed, clock, skip=done - clock.step):
            show(teachers, batch)
            objective = step(batch)
            hooks.skipped_steps += step.skipped
            meter.add(batch.clock.step, step.terms)
            count += len(batch)
            hooks.total_step += 1
            done = batch.clock.step + 1
            hooks.after_step()
            ended = plan.ends_epoch(done)
            if ended or done % LOG_EVERY == 0:
                hooks.on_event(meter.event(batch, objective, plan.epochs, hooks.total_step))
            if hooks.due(ended):
                meter.check(batch.clock)  # nobody goes on from a loss that was not finite
                hooks.pause(stand(epoch, done, count, meter, optimizer, scheduler))
            if hooks.stop():
                break
        if scheduler is not None:
            scheduler.step()
        if hooks.stop():
            break
        hooks.after_epoch(epoch)
    show(teachers, None)
    check_weights(strategy, f"experience {experience.index}, phase {phase.name}")
    if memory is not None and optimizer is not None:
        memory.save(phase.name, optimizer, strategy)
    return count


def asked_once(strategy: Finetune, regularizers: Mapping[str, Regularizer], phase: Phase, plan: Plan) -> list[Repeats]:
    """For each teacher that takes part, what keeps its answers; none where the phase's inputs do not come again, that
    is, in a single epoch or with random augmentation."""
    transform = phase.transform or strategy.train_transform
    again = plan.passes > 1 and transform is strategy.eval_transform
    parts = partial(batches, phase.data, strategy.eval_batch_size, transform, strategy.device)
    found = []
    for module in (module for part in (strategy, *regularizers.values()) for module in part.modules()):
        if isinstance(module, Frozen):
            module.repeats = Repeats(parts, len(phase.data)) if again else None
            found += [module.repeats] if module.repeats is not None else []
    return found


def show(teachers: Iterable[Repeats], batch: Batch | None) -> None:
    """Tell them the batch of the step; None = there are no more."""
    for repeats in teachers:
        repeats.batch = batch
        if batch is None:
            repeats.kept.clear()


def parameter_groups(strategy: Finetune, experience: Experience, phase: Phase) -> list[dict[str, Any]]:
    """What the phase's optimizer is given, groups without a parameter left out."""
    groups = phase.parameters if phase.parameters is not None else strategy.get_parameters(experience)
    return [group for group in (dict(g, params=list(g["params"])) for g in groups) if group["params"]]


def make_optimizer(
    groups: list[dict[str, Any]], phase: Phase, settings: Settings, plan: Plan
) -> tuple[torch.optim.Optimizer | None, Any]:
    """The phase's optimizer and scheduler; None where there is none."""
    if not groups:  # closed-form methods have nothing to descend on
        return None, None
    optimizer = fast(phase.optimizer or settings.optimizer)(groups)
    build = phase.scheduler or settings.scheduler
    if build is None:
        return optimizer, None
    return optimizer, call_offering(build, optimizer, T_max=plan.epochs, epochs=plan.epochs, steps=plan.steps)


def active(regularizers: Mapping[str, Regularizer], phase: Phase) -> dict[str, Regularizer]:
    """Those that take part in the phase."""
    regularize = phase.regularize if phase.regularize is not None else phase.observe is None
    return {name: r for name, r in regularizers.items() if r.weight > 0} if regularize else {}


def go_on(position: Position | None, meter: Meter, optimizer: Any, scheduler: Any) -> tuple[int, int, int]:
    """Epoch, step and samples to go on from."""
    if position is None:
        return 0, 0, 0
    meter.load_state(position["meter"])
    for part, name in ((optimizer, "optimizer"), (scheduler, "scheduler")):
        if part is not None:
            part.load_state_dict(position[name])
    return position["epoch"], position["step"], position["samples"]


def stand(epoch: int, done: int, count: int, meter: Meter, optimizer: Any, scheduler: Any) -> Position:
    """Where the phase stands after `done` steps and `count` samples."""
    return {
        "epoch": epoch,
        "step": done,
        "samples": count,
        "meter": meter.state(),
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
    }


def epoch_batches(
    strategy: Finetune, phase: Phase, plan: Plan, seed: int, clock: Clock, *, skip: int = 0
) -> Iterator[Batch]:
    """The batches of one epoch, without the first skip of them."""
    rest = epoch_order(phase, plan, seed, clock, skip=skip)
    transform = phase.transform or strategy.train_transform
    clock = replace(clock, step=clock.step + skip)
    return (
        batches(phase.data, plan.batch_size, transform, strategy.device, order=rest, clock=clock)
        if len(rest)
        else iter(())
    )


def epoch_order(phase: Phase, plan: Plan, seed: int, clock: Clock, *, skip: int) -> Tensor:
    """Positions of the epoch's samples, in an order that depends on (seed, experience, phase, epoch) alone, without
    those of the first skip batches and those after the phase's last step. clock: of the epoch's first step."""
    draw = seeding.generator("order", seed, clock.experience, clock.phase, clock.epoch)
    order = torch.randperm(len(phase.data), generator=draw)
    return order[skip * plan.batch_size : (clock.steps - clock.step) * plan.batch_size]
