"""Gradient descent over one phase, step by step; what one step is: step.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from clx.data.batches import batches
from clx.logger.base import StepDone
from clx.loop.meter import Meter
from clx.loop.optimizer_memory import OptimizerMemory
from clx.loop.step import Settings, Step
from clx.regularizer.base import Regularizer
from clx.runtime import seed as seeding
from clx.runtime.call import call_offering
from clx.strategy.finetune import Finetune
from clx.types import Batch, Clock, Experience, Phase

LOG_EVERY = 50  # steps between two StepDone events
Position = dict[str, Any]  # where a phase stands: epoch, step, samples, and the states of what lives as long as it does


@dataclass(kw_only=True)
class Hooks:
    """Whom a phase calls back: after some steps, after each step, after each epoch; stop() is asked each step, and
    due(ended), whether pause(position) wants to hear now where the phase stands; ended: an epoch, with that step."""

    on_event: Callable[[StepDone], None]
    after_step: Callable[[], None]
    after_epoch: Callable[[int], None]
    stop: Callable[[], bool]
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
    epochs = settings.epochs if phase.epochs is None else phase.epochs
    batch_size = phase.batch_size or settings.batch_size
    per_epoch = -(-len(phase.data) // batch_size)
    steps = min(epochs * per_epoch, settings.max_steps or epochs * per_epoch)
    optimizer, scheduler = _optimizer(strategy, experience, phase, settings, epochs, steps)
    if memory is not None and optimizer is not None and position is None:
        memory.restore(phase.name, optimizer, strategy)
    step = Step(strategy, _active(regularizers, phase), phase, optimizer, settings)
    meter = Meter()
    first, done, count = _go_on(position, meter, optimizer, scheduler)
    for epoch in range(first, -(-steps // per_epoch)):
        strategy.train()
        clock = Clock(experience.index, phase.name, epoch, epoch * per_epoch, steps)
        for batch in _epoch(strategy, phase, batch_size, settings.seed, clock, skip=done - epoch * per_epoch):
            objective = step(batch)
            hooks.skipped_steps += step.skipped
            meter.add(batch.clock.step, step.terms)
            count += len(batch)
            hooks.total_step += 1
            done = batch.clock.step + 1
            hooks.after_step()
            ended = done % per_epoch == 0 or done == steps
            if ended or done % LOG_EVERY == 0:
                hooks.on_event(meter.event(batch, objective, epochs, hooks.total_step))
            if hooks.due(ended):
                meter.check(batch.clock)  # nobody goes on from a loss that was not finite
                hooks.pause(_position(epoch, done, count, meter, optimizer, scheduler))
            if hooks.stop():
                break
        if scheduler is not None:
            scheduler.step()
        if hooks.stop():
            break
        hooks.after_epoch(epoch)
    step.check_weights(f"experience {experience.index}, phase {phase.name}")
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


def _go_on(position: Position | None, meter: Meter, optimizer: Any, scheduler: Any) -> tuple[int, int, int]:
    """Epoch, step and samples to go on from."""
    if position is None:
        return 0, 0, 0
    meter.load_state(position["meter"])
    for part, name in ((optimizer, "optimizer"), (scheduler, "scheduler")):
        if part is not None:
            part.load_state_dict(position[name])
    return position["epoch"], position["step"], position["samples"]


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
