"""What a checkpoint after each experience costs: the case "checkpoints" of benchmark_speed.py."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from clx.benchmark.stream import Benchmark
from clx.loop import checkpoints
from clx.loop import trainer as trainers
from clx.loop.run import run
from clx.loop.trainer import Trainer
from clx.store import checkpoint
from clx.store.run import RunStore

CONFIG = {"trainer": {"eval_every": 0, "checkpoint_every": "experience"}}


class Timed:
    """A function, and the seconds spent in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *args: Any, **words: Any) -> Any:
        started = time.perf_counter()
        try:
            return self.function(*args, **words)
        finally:
            self.seconds += time.perf_counter() - started


def checkpoint_cost(trainer: Trainer, benchmark: Benchmark) -> tuple[float, float]:
    """(seconds of writing and of keeping what it takes / seconds of training, size / what it holds) of one run."""
    write, keep = Timed(checkpoint.save), Timed(trainers.copied)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(checkpoints.checkpoint, "save", write):
        store = RunStore(Path(folder))
        store.begin({}, {})
        with mock.patch.object(trainers, "copied", keep):
            run(benchmark, trainer, store, title="er", config=CONFIG)
        store.close()
        size = max(file.stat().st_size for file in (Path(folder) / "checkpoint").iterdir())
        held = held_bytes(checkpoint.load(Path(folder)))
    return (write.seconds + keep.seconds) / trainer.train_seconds, size / held


def held_bytes(state: Any) -> int:
    """Bytes of the tensors in a state."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(map(held_bytes, parts))
