"""What a run writes down as it goes, so that it can go on from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from clx.benchmark.stream import Benchmark
from clx.loop.fit import Position
from clx.loop.parts import load_parts, parts
from clx.loop.trainer import Trainer
from clx.metric.matrix import AccuracyMatrix
from clx.store import checkpoint
from clx.store.due import Due
from clx.store.records import SCHEMA
from clx.store.run import RunStore

COUNTERS = ("finished", "total_step", "skipped_steps", "num_samples", "train_seconds", "eval_seconds")


class Checkpoints:
    """Writes a checkpoint when one is due, and when stopping() or asked() says so; after stopping(), KeyboardInterrupt.

    data: a digest of what is trained on. From now on the trainer keeps what it takes to go on from any step.
    """

    def __init__(
        self,
        trainer: Trainer,
        store: RunStore,
        every: str | int,
        stopping: Callable[[], bool],
        asked: Callable[[], bool],
        data: str = "",
    ) -> None:
        self.trainer, self.store, self.due, self.data = trainer, store, Due(every), data
        self.stopping, self.asked, self.stop = stopping, asked, False
        trainer.boundaries, trainer.due, trainer.pause = [], self._due, self._pause

    def experience_done(self, *, last: bool) -> None:
        """Write one if it is due; the last one always is."""
        self.stop = self.stopping()
        if any((last, self.stop, self.asked(), self.due.experience())):
            self._write(None)

    def stop_if_asked(self, *, last: bool) -> None:
        """After an experience that has been told; after the last one there is nothing to stop."""
        if self.stop and not last:
            raise KeyboardInterrupt

    def _due(self, ended: bool) -> bool:
        self.stop = self.stopping()
        return any((self.stop, self.asked(), self.due.step(ended=ended)))

    def _pause(self, position: Position | None) -> None:
        self._write(position)
        if self.stop:
            raise KeyboardInterrupt

    def _write(self, position: Position | None) -> None:
        self.store.check_place()
        checkpoint.save(
            self.store.folder, state(self.trainer, position) | {"written": self.store.written(), "data": self.data}
        )
        self.due.written()


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
        "matrix": torch.from_numpy(trainer.matrix.plain),
        "task_aware_matrix": torch.from_numpy(trainer.matrix.aware),
    }


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
    trainer.matrix.plain = saved["matrix"].numpy().copy()
    trainer.matrix.aware = saved["task_aware_matrix"].numpy().copy()
    for name, value in saved["counters"].items():
        setattr(trainer, name, value)
