"""A run told by hand, and a tiny one through the loop, for every tracker."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from clx.logger.base import Evaluated, Event, ExperienceDone, Logger, RunFinished, RunStarted, StepDone
from clx.loop.checkpoints import resume
from clx.loop.run import run
from clx.loop.trainer import Trainer
from clx.store import checkpoint
from clx.store.run import RunStore
from clx.strategy.finetune import Finetune

CONFIG: dict[str, Any] = {
    "seed": 3,
    "name": None,
    "tags": ["trial"],
    "choices": {"benchmark": "digits", "strategy": "er"},
    "strategy": {"_target_": "clx.strategy.er.ER", "_partial_": True, "replay_size": 4},
    "optimizer": {"lr": 0.05, "betas": [0.9, 0.99], "nesterov": True},
    "scheduler": {},
    "logger": {"some": {"token": "secret"}},
    "trainer": {"eval_every": 0, "checkpoint_every": "experience"},
}
LAST = RunFinished(
    metrics={"average_accuracy": 0.5, "forgetting": None},
    matrix=[[None, None], [1.0, None], [0.25, 0.75]],
    seconds=2.0,
    task_aware={"average_accuracy": 0.875},
    task_aware_matrix=[[None, None], [1.0, None], [0.75, 1.0]],
    cost={"train_seconds": 1.5, "parameters": 190},
)


@pytest.fixture
def config() -> dict[str, Any]:
    """The configuration of the runs here."""
    return CONFIG


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with its picture, 3 wide and 2 high, red."""
    folder = tmp_path / "a run"
    folder.mkdir()
    Image.new("RGB", (3, 2), (255, 0, 0)).save(folder / "matrix.png")
    return folder


@pytest.fixture
def tell() -> Callable[..., None]:
    """tell(logger, folder, finish=True): two experiences of two steps told to a logger, which is then closed."""

    def tell(logger: Logger, folder: Path | None, *, finish: bool = True) -> None:
        events: list[Event] = [
            RunStarted("digits/er seed 3", 2, config=CONFIG, folder=folder),
            Evaluated(0, [None, None], [None, None], 0),
            StepDone(0, "train", 0, 1, 2, 2, 2, {"ce": 0.5, "ewc": float("nan")}, 0.75),
            Evaluated(1, [1.0, None], [1.0, None], 2),
            ExperienceDone(0, 2, 1.0, [1.0, None]),
            StepDone(1, "train", 0, 1, 2, 2, 4, {"ce": 0.25}, None),
            Evaluated(2, [0.25, 0.75], [0.75, 1.0], 4),
            ExperienceDone(1, 2, 1.0, [0.25, 0.75]),
        ]
        for event in [*events, LAST] if finish else events:
            logger.on(event)
        logger.close()

    return tell


@pytest.fixture
def curves() -> dict[str, list[tuple[int, float]]]:
    """What `tell` tells over the steps. Means of what was measured: 1, then (0.25 + 0.75) / 2 and (0.75 + 1) / 2."""
    return {
        "loss/ce": [(2, 0.5), (4, 0.25)],
        "train_accuracy": [(2, 0.75)],
        "accuracy/0": [(2, 1.0), (4, 0.25)],
        "accuracy/1": [(4, 0.75)],
        "accuracy/mean": [(2, 1.0), (4, 0.5)],
        "task_aware_accuracy/0": [(2, 1.0), (4, 0.75)],
        "task_aware_accuracy/1": [(4, 1.0)],
        "task_aware_accuracy/mean": [(2, 1.0), (4, 0.875)],
    }


@pytest.fixture
def summary() -> dict[str, float]:
    """What `tell` tells at the end."""
    return {
        "metrics/average_accuracy": 0.5,
        "task_aware/average_accuracy": 0.875,
        "cost/train_seconds": 1.5,
        "cost/parameters": 190.0,
    }


class Interrupting:
    """Ctrl-C at that step of the run."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on(self, event: Event) -> None:
        if isinstance(event, StepDone) and event.total_step == self.at:
            raise KeyboardInterrupt

    def close(self) -> None:
        pass


@pytest.fixture
def train(make_benchmark: Any, make_model: Any) -> Callable[..., None]:
    """train(folder, logger, stop_at=-1): 3 experiences of 8 steps, told every 4, as the application runs them; goes
    on where the folder holds a checkpoint."""

    def train(folder: Path, logger: Logger, stop_at: int = -1) -> None:
        sgd = partial(torch.optim.SGD, lr=0.05)
        benchmark = make_benchmark()
        trainer = Trainer(Finetune(make_model()), sgd, epochs=2, batch_size=5, device="cpu", seed=4)
        store = RunStore(folder)
        saved = checkpoint.load(folder)
        if saved is not None:
            resume(benchmark, trainer, saved)
        store.begin(CONFIG, {}, saved and saved["written"])
        trainer.loggers = [store, logger, Interrupting(stop_at)]
        try:
            run(benchmark, trainer, store, title="digits/finetune seed 4", config=CONFIG)
        finally:
            store.close()
            logger.close()

    return train


@pytest.fixture
def recorded() -> Callable[[Path], dict[str, list[tuple[int, float]]]]:
    """recorded(folder): name -> (step, value) as the run's own metrics.csv has them."""

    def recorded(folder: Path) -> dict[str, list[tuple[int, float]]]:
        found = defaultdict(list)
        with (folder / "metrics.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                found[row["name"]].append((int(row["step"]), float(row["value"])))
        return dict(found)

    return recorded
