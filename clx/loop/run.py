"""A whole run: a Trainer over a benchmark, with a folder that it can go on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from clx.benchmark.stream import Benchmark
from clx.logger.base import ExperienceDone, RunFinished, RunStarted
from clx.loop.fit import Position
from clx.loop.parts import load_parts, parts
from clx.loop.trainer import Trainer
from clx.metric.matrix import AccuracyMatrix, from_lists, to_lists
from clx.metric.summary import summary
from clx.runtime import device as devices
from clx.store import checkpoint
from clx.store.records import SCHEMA
from clx.store.run import RunStore


def run(
    benchmark: Benchmark,
    trainer: Trainer,
    store: RunStore,
    *,
    title: str,
    config: Mapping[str, Any],
    stopping: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train and evaluate every experience that is still to come, and draw the pictures; returns the result.

    title: "benchmark/strategy", for people. config: the run's, whose trainer.eval_every (-1 = after the last
    experience only) and trainer.checkpoint_every are kept here. stopping: asked after each step; where it says True, a
    checkpoint is written and KeyboardInterrupt raised.
    """
    eval_every, checkpoint_every = config["trainer"]["eval_every"], config["trainer"]["checkpoint_every"]
    begun = time.perf_counter()
    before = trainer.train_seconds + trainer.eval_seconds
    count, test = len(benchmark.train), benchmark.test
    trainer.attach(benchmark.transform)
    save = _checkpoints(trainer, store, stopping)
    trainer.emit(RunStarted(title, count, trainer.finished, trainer.total_step, config, store.folder))
    if trainer.matrix is None:
        trainer.matrix = AccuracyMatrix(count, len(test))
    if trainer.finished == 0 and trainer.replay is None and eval_every >= 0:
        trainer.grow(benchmark.train[0])
        trainer.evaluate(test)
    for experience in benchmark.train[trainer.finished :]:
        seconds = trainer.train_seconds
        trainer.train_experience(experience, test)
        if eval_every >= 0 or trainer.finished == count:
            trainer.evaluate(test)
        if trainer.finished % checkpoint_every == 0 or trainer.finished == count:
            save()
        row = to_lists(trainer.matrix.plain)[trainer.finished]
        trainer.emit(ExperienceDone(experience.index, count, trainer.train_seconds - seconds, row))
        if stopping() and trainer.finished < count:
            trainer.pause(None)
    from clx.store.plot import plot_accuracy, plot_matrix  # noqa: PLC0415 - matplotlib, when training is over

    result = _result(trainer, before + time.perf_counter() - begun)
    plot_accuracy(trainer.matrix.plain, title, store.folder / "accuracy.png")
    plot_matrix(trainer.matrix.plain, title, store.folder / "matrix.png")
    trainer.emit(
        RunFinished(
            result["metrics"],
            result["accuracy_matrix"],
            result["cost"]["total_seconds"],
            result["task_aware"],
            result["task_aware_accuracy_matrix"],
            result["cost"],
        )
    )
    return result


def _checkpoints(trainer: Trainer, store: RunStore, stopping: Callable[[], bool]) -> Callable[[], None]:
    """Have the trainer keep what it takes to go on from any step, and ask stopping() after each; returns what writes
    a checkpoint."""

    def save(position: Position | None = None) -> None:
        checkpoint.save(store.folder, state(trainer, position) | {"written": store.written()})

    def pause(position: Position | None) -> None:
        save(position)
        raise KeyboardInterrupt

    trainer.boundaries, trainer.due, trainer.pause = [], stopping, pause
    return save


def _result(trainer: Trainer, seconds: float) -> dict[str, Any]:
    assert trainer.matrix is not None
    strategy = trainer.strategy
    return {
        "metrics": summary(trainer.matrix.plain),
        "task_aware": summary(trainer.matrix.aware),
        "accuracy_matrix": to_lists(trainer.matrix.plain),
        "task_aware_accuracy_matrix": to_lists(trainer.matrix.aware),
        "cost": {
            "train_seconds": trainer.train_seconds,
            "eval_seconds": trainer.eval_seconds,
            "total_seconds": seconds,
            "samples_per_second": trainer.num_samples / max(trainer.train_seconds, 1e-9),
            "peak_memory_bytes": devices.peak_memory(trainer.device),
            "parameters": sum(p.numel() for p in strategy.model.parameters()),
            "buffer_bytes": 0 if strategy.buffer is None else strategy.buffer.nbytes,
        },
    }


def state(trainer: Trainer, position: Position | None = None) -> dict[str, Any]:
    """Everything that the rest of the run depends on, as tensors and numbers.

    position: where a phase stands, None = between phases or experiences.
    """
    assert trainer.matrix is not None
    return {
        "schema": SCHEMA,
        "counters": {name: getattr(trainer, name) for name in COUNTERS} | {"train_seconds": trainer.seconds()},
        "parts": parts(trainer),
        "boundaries": list(trainer.boundaries or ()),
        "position": position,
        "matrix": to_lists(trainer.matrix.plain),
        "task_aware_matrix": to_lists(trainer.matrix.aware),
    }


COUNTERS = ("finished", "total_step", "num_samples", "train_seconds", "eval_seconds")


def resume(benchmark: Benchmark, trainer: Trainer, saved: dict[str, Any]) -> None:
    """Bring a fresh trainer to where the saved one was.

    Replaying `adaptation` rebuilds every shape without training, then the tensors are filled in. Inside an experience
    that is done by the trainer, phase by phase.
    """
    trainer.attach(benchmark.transform)
    finished = saved["counters"]["finished"]
    for index in range(finished + bool(saved["boundaries"])):
        trainer.grow(benchmark.train[index])
    if saved["boundaries"]:
        trainer.replay = saved
    else:
        load_parts(trainer, saved["parts"])
    trainer.matrix = AccuracyMatrix(1, 1)
    trainer.matrix.plain = from_lists(saved["matrix"])
    trainer.matrix.aware = from_lists(saved["task_aware_matrix"])
    for name, value in saved["counters"].items():
        setattr(trainer, name, value)
