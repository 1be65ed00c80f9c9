"""One phase of several runs that differ by their seeds, fitted as one; the single run's is in fit.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from clx.data.transform import ToInput
from clx.loop.course import Fitting
from clx.loop.fit import LOG_EVERY, Plan, epoch_batches, epoch_order, nothing, stand
from clx.loop.group_step import GroupStep, Terms, objective_of, of_run
from clx.loop.meter import Meter
from clx.loop.stacked import Turn, Unbatchable
from clx.loop.stacked_optimizer import StackedOptimizer
from clx.loop.step import check_weights
from clx.types import Batch, Clock


class Group:
    """A phase that S trainers halt at, their runs differing by the seed alone.

    draws(i): run i's torch generators in force, for what a step draws; turn(i): everything that is run i's.
    Raises Unbatchable where the runs cannot be trained as one; nothing has been changed then.
    """

    def __init__(self, fittings: Sequence[Fitting], draws: Turn, turn: Turn) -> None:
        self.fittings, self.draws, self.turn = fittings, draws, turn
        _check(fittings)
        first = fittings[0]
        self.phase, self.strategies = first.phase, [fitting.trainer.strategy for fitting in fittings]
        self.plan = Plan.of(first.phase, first.trainer.settings)
        self.optimizer = StackedOptimizer(fittings, self.plan)
        self.same_data = _same_data(fittings)
        for strategy in self.strategies:
            strategy.train()
        self.step = GroupStep(fittings, draws)
        try:
            (self.first_epoch, self.done, self.count), self.meter = self.optimizer.begin(self.step.stack.of)
            self.step.optimizer = self.optimizer.whole
        except BaseException:
            self.close()
            raise
        self.errors: dict[int, BaseException] = {}  # by run

    def close(self) -> None:
        """Give every run its own tensors again."""
        self.step.stack.close()

    def try_one(self) -> None:
        """One forward pass, and nothing is trained. Raises Unbatchable where that cannot be done for all at once."""
        self.step.forward(next(self._batches(self._clock(self.first_epoch), 0)))

    def fit(self) -> None:
        """Train the phase and leave each run's outcome with its fitting. Raises Unbatchable before the first step."""
        self._epochs()
        self.optimizer.save()
        for number, (fitting, strategy) in enumerate(zip(self.fittings, self.strategies, strict=True)):
            after = f"experience {fitting.experience.index}, phase {self.phase.name}"
            self._as(number, check_weights, strategy, after)
            fitting.outcome = self.errors.get(number, self.count)

    def _clock(self, epoch: int) -> Clock:
        return self.plan.clock(self.fittings[0].experience.index, self.phase.name, epoch)

    def _epochs(self) -> None:
        for epoch in range(self.first_epoch, self.plan.passes):
            for strategy in self.strategies:
                strategy.train()
            clock, over = self._clock(epoch), False
            for batch in self._batches(clock, self.done - clock.step):
                self._tell(batch, *self.step(batch))
                over = self._stopped() or len(self.errors) == len(self.fittings)
                if over:
                    break
            if self.optimizer.scheduler is not None:
                self.optimizer.scheduler.step()
            if over:
                break
            for number, fitting in enumerate(self.fittings):
                if fitting.hooks.after_epoch is not nothing:
                    self._as(number, self._in_turn, number, fitting.hooks.after_epoch, epoch)

    def _stopped(self) -> bool:
        """Whether somebody has called stop_training(): it then holds for all."""
        stopped = any(fitting.hooks.stop() for fitting in self.fittings)
        for fitting in self.fittings if stopped else ():
            fitting.trainer.stop_training()
        return stopped

    def _as(self, number: int, function: Callable[..., None], *args: Any) -> None:
        """Call it, unless the run has failed; what it raises ends this run in its own course, and no other."""
        if number in self.errors:
            return
        try:
            function(*args)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - raised again where the run is told of the fit
            self.errors[number] = error

    def _in_turn(self, number: int, function: Callable[..., None], *args: Any) -> None:
        with self.turn(number):
            function(*args)

    def _tell(self, batch: Batch, terms: Terms, logits: Tensor | None) -> None:
        """What comes after a step: counting, logging, evaluating, checkpoints."""
        self.meter.add(batch.clock.step, terms)
        self.count += batch.y.shape[1]
        self.done = batch.clock.step + 1
        for number, fitting in enumerate(self.fittings):
            fitting.hooks.total_step += 1
            if fitting.hooks.after_step is not nothing:
                self._as(number, self._in_turn, number, fitting.hooks.after_step)
        ended = self.plan.ends_epoch(self.done)
        if ended or self.done % LOG_EVERY == 0:
            for number in range(len(self.fittings)):
                self._as(number, self._event, number, batch, terms, logits)
            self.meter = Meter()
        self._checkpoints(ended, batch.clock)

    def _event(self, number: int, batch: Batch, terms: Terms, logits: Tensor | None) -> None:
        hooks, objective = self.fittings[number].hooks, objective_of(terms, logits, number)
        own = self.meter.of(number).event(of_run(batch, number), objective, self.plan.epochs, hooks.total_step)
        hooks.on_event(own)

    def _checkpoints(self, ended: bool, clock: Clock) -> None:
        due = [number for number, fitting in enumerate(self.fittings) if fitting.hooks.due(ended)]
        if not due:
            return
        self.optimizer.hand_out()
        for number in due:
            self._as(number, self._in_turn, number, self._pause, number, clock)
        if any(isinstance(error, KeyboardInterrupt) for error in self.errors.values()):
            for number in set(range(len(self.fittings))) - set(due):  # asked to stop while others were being asked
                self.fittings[number].hooks.due(False)
                self._as(number, self._in_turn, number, self._pause, number, clock)

    def _pause(self, number: int, clock: Clock) -> None:
        meter, optimizer = self.meter.of(number), self.optimizer.each[number]
        meter.check(clock)
        scheduler = self.optimizer.scheduler
        self.fittings[number].hooks.pause(stand(clock.epoch, self.done, self.count, meter, optimizer, scheduler))

    def _batches(self, clock: Clock, skip: int) -> Iterator[Batch]:
        """The batches of an epoch, each run's in its own order, as [S, B, ...]."""
        seeds = [fitting.trainer.settings.seed for fitting in self.fittings]
        if not self.same_data:
            yield from self._gathered(seeds, clock, skip)
            return
        data, strategy = self.phase.data, self.strategies[0]
        orders = torch.stack([epoch_order(self.phase, self.plan, seed, clock, skip=skip) for seed in seeds])
        transform, device = self.phase.transform or strategy.train_transform, strategy.device
        for number, part in enumerate(orders.split(self.plan.batch_size, 1) if orders.shape[1] else ()):
            index = part.to(data.data.device)
            raw = data.take(index.reshape(-1)).to(device, non_blocking=True)
            x, raw = transform(raw).unflatten(0, index.shape), raw.unflatten(0, index.shape)
            now = Clock(clock.experience, clock.phase, clock.epoch, clock.step + skip + number, clock.steps)
            yield Batch(x, data.y[index].to(device), data.t[index].to(device), raw, index, now)

    def _gathered(self, seeds: Sequence[int], clock: Clock, skip: int) -> Iterator[Batch]:
        """The same where runs train on data of their own, or change it at random."""
        sources = [
            epoch_batches(strategy, fitting.phase, self.plan, seed, clock, skip=skip)
            for strategy, fitting, seed in zip(self.strategies, self.fittings, seeds, strict=True)
        ]
        while True:
            each: list[Batch] = []
            for number, source in enumerate(sources):
                with self.draws(number):
                    each += [batch for batch in (next(source, None),) if batch is not None]
            if not each:
                return
            x, y, t, raw, index = (torch.stack([getattr(b, k) for b in each]) for k in ("x", "y", "t", "raw", "index"))
            yield Batch(x, y, t, raw, index, each[0].clock)


def _check(fittings: Sequence[Fitting]) -> None:
    """Raise Unbatchable for what the settings and the phases alone say."""
    first, settings = fittings[0], fittings[0].trainer.settings
    if first.trainer.strategy.alone is not None:
        raise Unbatchable(first.trainer.strategy.alone)
    if settings.precision != "float32":
        raise Unbatchable(f"trainer.precision={settings.precision} rounds in another order; use float32")
    form = first.trainer.form
    if form.compile is not None:
        raise Unbatchable(f"trainer.compile={form.compile} compiles the model of one run; use null")
    if form.channels_last:
        raise Unbatchable("trainer.channels_last=true is lost where weights of several runs are stacked; use false")
    if settings.on_nonfinite != "stop":
        raise Unbatchable("trainer.on_nonfinite=skip leaves out steps of single runs")
    if not len(first.phase.data):
        raise Unbatchable(f"phase {first.phase.name} has no samples")
    if len({(f.phase.name, len(f.phase.data), Plan.of(f.phase, f.trainer.settings)) for f in fittings}) > 1:
        raise Unbatchable(f"phase {first.phase.name} is not equally long in all runs")


def _same_data(fittings: Sequence[Fitting]) -> bool:
    """Whether all train on the same samples, and bring them into the model's form without chance."""
    first = fittings[0]
    transform = first.phase.transform or first.trainer.strategy.train_transform
    return type(transform) is ToInput and all(
        all(_same(getattr(first.phase.data, name), getattr(f.phase.data, name)) for name in ("data", "rows", "y", "t"))
        for f in fittings[1:]
    )


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b))
