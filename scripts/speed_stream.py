"""Long streams: evaluation of 50 experiences in one go, and what each of 1,000 experiences costs beyond its steps."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from speed_measure import Found, Pair, show
from torch import Tensor

from clx.benchmark.split import Split
from clx.data.synthetic import Synthetic
from clx.logger.base import Event, ExperienceDone, Logger
from clx.loop import checkpoints, run
from clx.loop import trainer as trainers
from clx.loop.step import Step
from clx.loop.trainer import Trainer
from clx.model.head.incremental import IncrementalClassifier
from clx.model.simple_mlp import SimpleMLP
from clx.store.run import RunStore
from clx.strategy.finetune import Finetune

EXPERIENCE_MS = 5.0  # beyond steps, evaluation and checkpoints
CONSTANT = 1.5  # times the 10th to 60th, for the last 50
ROUNDS = 5  # evaluations in a piece of work


def grown_trainer(split: Split, hidden_size: int, hidden_layers: int) -> Trainer:
    """A Trainer whose head knows every class of the stream; nothing is trained."""
    torch.manual_seed(0)
    model = SimpleMLP(hidden_size=hidden_size, hidden_layers=hidden_layers, drop_rate=0.0)
    model.classifier = IncrementalClassifier(model.feature_dim)
    trainer = Trainer(Finetune(model), device="cpu")
    trainer.attach(split.transform)
    for experience in split.train:
        trainer.grow(experience)
    return trainer


def evaluation() -> Pair:
    """50 test sets of 2 classes, 10,000 images of 1x28x28 in all, through the MLP; bare: all of them as floats, in
    batches of as many samples, and one accuracy."""
    data = Synthetic([1, 28, 28], num_classes=100, train_per_class=1, test_per_class=100, noise=64.0, seed=0)
    split = Split(data=data, num_experiences=50)
    trainer = grown_trainer(split, hidden_size=400, hidden_layers=2)
    tests = list(split.test)
    x = torch.cat([split.transform.eval(part.raw) for part in tests])
    y, model = torch.cat([part.y for part in tests]), trainer.strategy.model.eval()

    @torch.no_grad()
    def bare() -> Tensor:
        hits = 0
        for _ in range(ROUNDS):
            hits = sum((model(a).argmax(1) == b).sum() for a, b in zip(x.split(512), y.split(512), strict=True))
        return torch.as_tensor(hits) / len(y)

    stream: Any = split.test

    def ours() -> Tensor:
        for _ in range(ROUNDS):
            found = trainer.eval(stream)
        return torch.tensor(found["average_accuracy"])

    return Pair(bare=lambda: bare, ours=lambda: ours, limit=1.10)


class Watched:
    """A function that can stand in its class, and the seconds spent in it: on the clock, and of this thread alone."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.wall, self.cpu = function, 0.0, 0.0

    def __get__(self, instance: Any, owner: type) -> Callable[..., Any]:
        return partial(self, instance)

    def __call__(self, *args: Any, **words: Any) -> Any:
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            return self.function(*args, **words)
        finally:
            self.wall += time.perf_counter() - wall
            self.cpu += time.thread_time() - cpu


class Laps(Logger):
    """Notes at the end of each experience both times, without what was spent in the watched functions."""

    def __init__(self, watched: list[Watched]) -> None:
        self.watched = watched
        self.start()

    def start(self) -> None:
        """Forget what came before."""
        self.times = [self.now()]

    def now(self) -> tuple[float, float]:
        """Of the clock and of this thread."""
        wall, cpu = (sum(values) for values in zip(*((w.wall, w.cpu) for w in self.watched), strict=True))
        return time.perf_counter() - wall, time.thread_time() - cpu

    def on(self, event: Event) -> None:
        if isinstance(event, ExperienceDone):
            self.times.append(self.now())


def overhead(experiences: int, eval_every: int = 0) -> tuple[list[float], list[float]]:
    """Milliseconds of each experience of a whole run with its folder, on the clock and of CPU time, less its steps, its
    evaluation (the writing of the results with it) and its checkpoints. eval_every: the Trainer's."""
    data = Synthetic([1, 8, 8], num_classes=2 * experiences, train_per_class=5, test_per_class=1, noise=32.0, seed=0)
    split = Split(data=data, num_experiences=experiences)
    model = SimpleMLP(input_size=64, hidden_size=128)
    model.classifier = IncrementalClassifier(128)
    trainer = Trainer(Finetune(model), batch_size=10, device="cpu", eval_every=eval_every)
    places = [(Step, "__call__"), (Trainer, "evaluate"), (checkpoints.Checkpoints, "_write")]
    methods = [Watched(getattr(owner, name)) for owner, name in places]
    copying = Watched(trainers.copied)
    laps = Laps([*methods, copying])
    trainer.loggers = [laps]
    config = {"trainer": {"eval_every": eval_every, "checkpoint_every": "auto"}}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as patches:
        for (owner, name), method in zip(places, methods, strict=True):
            patches.enter_context(mock.patch.object(owner, name, method))
        patches.enter_context(mock.patch.object(trainers, "copied", copying))
        store = RunStore(Path(folder))
        store.begin({}, {})
        trainer.loggers.insert(0, store)
        split.load()
        laps.start()
        run.run(split, trainer, store, title="synthetic/finetune", config=config)
        store.close()
    return tuple([1e3 * (after - before) for before, after in pairwise(kind)] for kind in zip(*laps.times, strict=True))


def thousand(_: int, experiences: int = 1000) -> Found:
    """Milliseconds of overhead per experience, median, and whether it stays what it was.

    That is judged without the evaluations in between: the last ones read and write megabytes, and leave the processor's
    caches empty for what comes next.
    """
    wall, cpu = overhead(experiences)
    early, late = (statistics.median(part) for part in (wall[9:59], wall[-50:]))
    alone = overhead(experiences, eval_every=-1)[1]
    found: Found = {
        "median_ms": statistics.median(wall[9:]),
        "from_10th_ms": early,
        "last_50_ms": late,
        "growth": statistics.median(alone[-51:-1]) / statistics.median(alone[9:59]),  # the last one is evaluated
        "growth_with_evaluations": late / early,
        "cpu_growth_with_evaluations": statistics.median(cpu[-50:]) / statistics.median(cpu[9:59]),
        "limit_ms": EXPERIENCE_MS,
        "limit_growth": CONSTANT,
    }
    found["ok"] = max(early, late) <= EXPERIENCE_MS and found["growth"] <= CONSTANT
    show(
        "thousand_experiences",
        f"beyond steps, evaluation and checkpoints {found['median_ms']:.2f} ms; 10th to 59th {early:.2f}, last 50 "
        f"{late:.2f} ({found['growth_with_evaluations']:.2f} times; {found['growth']:.2f} where nothing is "
        "evaluated in between)",
        f"limit {EXPERIENCE_MS} ms, {CONSTANT} times  {'ok' if found['ok'] else 'MISS'}",
    )
    return found


CASES: dict[str, Callable[[], Pair]] = {"evaluation": evaluation}
REPORTS: dict[str, Callable[[int], Found]] = {"thousand_experiences": thousand}
