"""The loop as an object, usable without Hydra and without a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch

from clx.data.batches import batches
from clx.logger.base import Evaluated, Event, Logger
from clx.loop.course import Fitting, alone
from clx.loop.evaluate import Evaluator
from clx.loop.fit import Hooks, Position
from clx.loop.form import Form
from clx.loop.optimizer_memory import OptimizerMemory
from clx.loop.parts import copied, load_parts, parts
from clx.loop.step import Settings
from clx.metric.matrix import AccuracyMatrix, to_list
from clx.metric.summary import summary
from clx.model.batch_norm import bear_single_samples
from clx.model.dynamic import needs_task_labels
from clx.regularizer.base import Regularizer
from clx.runtime import device as devices
from clx.strategy.finetune import Finetune
from clx.types import Experience

KEEPING = ("reset", "keep")
ON_NONFINITE = ("stop", "skip")
SGD = partial(torch.optim.SGD, lr=0.05)


class Trainer:
    """Trains a strategy on a stream of experiences and evaluates it on a stream of test sets.

    optimizer, scheduler: partials, called for each phase with the parameters (and the optimizer). regularizers:
    by the name that their term is logged under. device: auto, cpu, cuda, cuda:N. eval_every: -1 = train()
    never evaluates, 0 = after each experience, k = also every k epochs; eval_steps: also every that many steps.
    optimizer_state: reset or keep its state from one experience to the next. max_steps: of one phase. on_nonfinite:
    stop with FloatingPointError, or skip the steps whose loss or gradient is not finite (asks the device each step).
    precision, compile, channels_last: those of Form. transform: of the samples; None = that of the stream that train()
    is given. seed: of the order of batches.
    """

    def __init__(
        self,
        strategy: Finetune,
        optimizer: Callable[..., torch.optim.Optimizer] = SGD,
        *,
        scheduler: Callable[..., Any] | None = None,
        regularizers: Mapping[str, Regularizer] | None = None,
        epochs: int = 1,
        batch_size: int = 64,
        eval_batch_size: int = 512,
        eval_every: int = 0,
        eval_steps: int | None = None,
        device: str = "auto",
        precision: str = "float32",
        compile: str | None = None,  # noqa: A002 - the name that torch and people have for it
        channels_last: bool = False,
        optimizer_state: str = "reset",
        max_steps: int | None = None,
        clip_norm: float | None = None,
        on_nonfinite: Literal["stop", "skip"] = "stop",
        seed: int = 0,
        transform: Any = None,
        loggers: Sequence[Logger] = (),
    ) -> None:
        counts: dict[str, int | None] = {"epochs": epochs, "batch_size": batch_size, "eval_batch_size": eval_batch_size}
        for name, value in (counts | {"max_steps": max_steps, "eval_steps": eval_steps}).items():
            if value is not None and value < 1:
                raise ValueError(f"{name} {value} < 1; give at least 1")
        for name, chosen, allowed in (
            ("optimizer_state", optimizer_state, KEEPING),
            ("on_nonfinite", on_nonfinite, ON_NONFINITE),
        ):
            if chosen not in allowed:
                raise ValueError(f"{name} {chosen!r} is not one of {', '.join(allowed)}")
        self.strategy = strategy
        self.regularizers = torch.nn.ModuleDict(dict(sorted((regularizers or {}).items())))
        self.settings = Settings(
            optimizer=optimizer,
            scheduler=scheduler,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            precision=precision,
            clip_norm=clip_norm,
            max_steps=max_steps,
            on_nonfinite=on_nonfinite,
        )
        self.device, self.form = devices.resolve(device), Form(precision, compile, channels_last)
        self.form.check(strategy.model, self.device)
        self.eval_batch_size, self.eval_every, self.eval_steps = eval_batch_size, eval_every, eval_steps
        self.memory = OptimizerMemory() if optimizer_state == "keep" else None
        self.transform = transform
        self.loggers = list(loggers)
        self.matrix: AccuracyMatrix | None = None
        self.finished = 0  # experiences
        self.known_classes: set[int] = set()  # columns met
        self.known_tasks: set[int] = set()  # task labels met
        self.total_step = 0
        self.skipped_steps = 0  # by on_nonfinite=skip
        self.num_samples = 0  # trained on, repetitions counted
        self.train_seconds = 0.0
        self.eval_seconds = 0.0
        self.clock: Callable[[], float] = time.perf_counter  # s; another where runs share a processor
        self.boundaries: list[dict[str, Any]] | None = None  # between phases; None = not kept
        self.replay: dict[str, Any] | None = None  # a checkpoint from inside the experience that comes next
        self.due: Callable[[bool], bool] = lambda _: False
        self.pause: Callable[[Position | None], None] = lambda _: None
        self._evaluator: tuple[Any, Evaluator] | None = None
        self._last_transform: Any = None
        self._stop = False

    def train(
        self, experiences: Experience | Iterable[Experience], eval_streams: Any = None
    ) -> dict[str, float | None]:
        """Train on an experience or several, in order; returns the last value of each metric.

        eval_streams: a stream of test sets, evaluated as eval_every says and put into `matrix`.
        """
        self._stop = False
        for experience in (experiences,) if isinstance(experiences, Experience) else experiences:
            self.attach(experience.transform)
            if self.finished == 0 and eval_streams is not None and self.eval_every >= 0:
                self.grow(experience)
                self.evaluate(eval_streams)
            self.train_experience(experience, eval_streams)
            if eval_streams is not None and self.eval_every >= 0:
                self.evaluate(eval_streams)
            if self._stop:
                break
        return {} if self.matrix is None else summary(self.matrix.plain)

    def eval(self, stream: Any) -> dict[str, float | None]:
        """Accuracy on each test set of the stream, by the name accuracy/<number>, and their mean; None where a
        class has no column yet. With several streams, by name, the names lead: `test/accuracy/0`."""
        if isinstance(stream, Mapping):
            return {f"{name}/{key}": v for name, s in stream.items() for key, v in self.eval(s).items()}
        self.attach(getattr(stream, "transform", None))
        plain, _ = self._accuracies(stream)
        values = to_list(plain)
        known = [v for v in values if v is not None]
        mean = sum(known) / len(known) if known else None
        return {f"accuracy/{j}": v for j, v in enumerate(values)} | {"average_accuracy": mean}

    def stop_training(self) -> None:
        """Stop after the current step; what was trained so far stays."""
        self._stop = True

    def attach(self, transform: Any) -> None:
        """Hand the stream's transform and the device to strategy, regularizers and buffer."""
        transform = self.transform or transform or self._last_transform
        if transform is None:
            raise ValueError("transform None: this stream has none of its own; give Trainer(transform=...)")
        self._last_transform = transform.to(self.device) if hasattr(transform, "to") else transform
        self.strategy.attach(self._last_transform, self.device, self.eval_batch_size)
        self.regularizers.to(self.device)

    def grow(self, experience: Experience) -> None:
        """Adapt strategy and regularizers to an experience, once."""
        if self._grown_for == experience.index:
            return
        self.strategy.adaptation(experience)
        for regularizer in self._each_regularizer():
            # After growth: importances go by name, and old rows lead.
            regularizer.adaptation(self.strategy.model, experience)
        bear_single_samples(self.strategy)
        for module in (self.strategy, self.regularizers):
            self.form.give(module.to(self.device))
        self.known_classes.update(experience.classes)
        self.known_tasks.update(experience.classes_by_task)
        self._grown_for = experience.index

    _grown_for: int | None = None
    _begun: float | None = None  # when the experience in course began, as if nothing had been evaluated before

    def train_experience(self, experience: Experience, eval_stream: Any = None) -> None:
        """Everything of one experience but its final evaluation."""
        alone(self.course(experience, eval_stream))

    def course(self, experience: Experience, eval_stream: Any = None) -> Generator[Fitting, None, None]:
        """The same, with a halt before each phase is fitted."""
        self._begun = self.clock() - self.eval_seconds
        self.grow(experience)
        replay, self.replay = self.replay, None
        self._boundary(replay, 0)
        with self.form.plain():
            self.strategy.before_task(experience)
        hooks = self._hooks(eval_stream)
        for number, phase in enumerate(self.strategy.phases(experience)):
            if replay is None or number >= len(replay["boundaries"]) - 1:
                position = None if replay is None else replay["position"]
                if position is not None:
                    assert replay is not None
                    load_parts(self, replay["parts"])
                replay = None
                fitting = Fitting(
                    trainer=self, experience=experience, phase=phase, number=number, hooks=hooks, position=position
                )
                yield fitting
                self.num_samples += fitting()
                self.total_step, self.skipped_steps = hooks.total_step, hooks.skipped_steps
            self._boundary(replay, number + 1)
            if self._stop:
                break
        self.strategy.eval()
        with self.form.plain():
            self.strategy.after_task(experience)
            for regularizer in self._each_regularizer():
                if regularizer.weight > 0:
                    parts = batches(experience.data, self.eval_batch_size, self.strategy.eval_transform, self.device)
                    regularizer.after_task(self.strategy.model, experience, parts)
        self.finished += 1
        if self.boundaries is not None:
            self.boundaries = []
        self.train_seconds, self._begun = self.seconds(), None

    def seconds(self) -> float:
        """Spent on training so far, evaluation apart."""
        inside = 0.0 if self._begun is None else self.clock() - self._begun - self.eval_seconds
        return self.train_seconds + inside

    def _boundary(self, replay: Mapping[str, Any] | None, number: int) -> None:
        """Keep the state between two phases, or in a replay put back the one that was kept there: what the strategy
        does between its phases then comes out the same, although nothing is fitted."""
        if replay is not None:
            load_parts(self, replay["boundaries"][number])
        if self.boundaries is not None:
            self.boundaries[number:] = [copied(parts(self))]
            if replay is None and number and self.due(False):
                self.pause(None)

    def evaluate(self, stream: Any, epoch: int | None = None) -> None:
        """Evaluate the stream; into the matrix's row `finished`, unless it is in the middle of an experience."""
        plain, aware = self._accuracies(stream)
        if epoch is None:
            if self.matrix is None:
                self.matrix = AccuracyMatrix(self.finished, len(plain))
            self.matrix.set_row(self.finished, plain, aware)
        self.emit(Evaluated(self.finished, to_list(plain), to_list(aware), self.total_step, epoch))

    def emit(self, event: Event) -> None:
        """Tell every logger."""
        for logger in self.loggers:
            logger.on(event)

    def _accuracies(self, stream: Any) -> tuple[list[float], list[float]]:
        started = self.clock()
        if self._evaluator is None or self._evaluator[0] is not stream:
            self._evaluator = (stream, Evaluator(stream, getattr(stream, "classes", None)))
        result = self._evaluator[1](
            self.strategy,
            self.eval_batch_size,
            known_classes=self.known_classes,
            known_tasks=self.known_tasks if needs_task_labels(self.strategy.model) else None,
        )
        self.eval_seconds += self.clock() - started
        return result

    def _hooks(self, eval_stream: Any) -> Hooks:
        hooks = Hooks(
            on_event=self.emit,
            stop=lambda: self._stop,
            due=self.due,
            total_step=self.total_step,
            skipped_steps=self.skipped_steps,
        )

        def pause(position: Position) -> None:
            self.total_step, self.skipped_steps = hooks.total_step, hooks.skipped_steps
            self.pause(position)

        hooks.pause = pause

        def measure(epoch: int) -> None:
            self.total_step = hooks.total_step
            self.evaluate(eval_stream, epoch=epoch)

        def after_epoch(epoch: int) -> None:
            if (epoch + 1) % self.eval_every == 0:
                measure(epoch)

        def after_step() -> None:
            if hooks.total_step % (self.eval_steps or 1) == 0:
                measure(-1)

        if eval_stream is not None and self.eval_every > 0:
            hooks.after_epoch = after_epoch
        if eval_stream is not None and self.eval_steps:
            hooks.after_step = after_step
        return hooks

    def _each_regularizer(self) -> Iterable[Regularizer]:
        for regularizer in self.regularizers.values():
            assert isinstance(regularizer, Regularizer)
            yield regularizer
