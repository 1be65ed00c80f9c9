"""A whole run: what it leaves, and going on from it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from clx.benchmark.split import Split
from clx.buffer.reservoir import Reservoir
from clx.logger.base import Event, ExperienceDone
from clx.loop.checkpoints import resume
from clx.loop.run import run
from clx.loop.trainer import Trainer
from clx.metric.summary import METRICS
from clx.regularizer.ewc_online import EWCOnline
from clx.regularizer.lwf import LwF
from clx.store import checkpoint
from clx.store.run import RunStore
from clx.strategy.er import ER

Parts = tuple[Split, Trainer]


@pytest.fixture
def make_parts(make_benchmark: Any, make_model: Any) -> Callable[..., Parts]:
    """ER with a reservoir, dropout and momentum; with extras, state that outlives an experience in every other place
    too: two regularizers and the optimizer."""

    def make(*, extras: bool = False) -> Parts:
        strategy = ER(make_model(drop_rate=0.5), Reservoir(6, seed=4, offer="first_epoch"), replay_size=4)
        options: dict[str, Any] = {}
        if extras:
            ewc = EWCOnline(10.0, decay=0.9, labels="sampled", seed=0)
            options = {"regularizers": {"ewc": ewc, "lwf": LwF(1.0, temperature=2.0)}, "optimizer_state": "keep"}
        sgd = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
        return make_benchmark(), Trainer(strategy, sgd, epochs=2, batch_size=5, device="cpu", seed=4, **options)

    return make


class Interrupting:
    """Ctrl-C when that many experiences are done."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on(self, event: Event) -> None:
        if isinstance(event, ExperienceDone) and event.experience + 1 == self.after:
            raise KeyboardInterrupt

    def close(self) -> None:
        pass


def start(
    parts: Parts, folder: Path, *, stop_after: int = -1, stopping: Callable[[], bool] = lambda: False, **options: int
) -> dict[str, Any]:
    """Run, or go on, in the folder."""
    benchmark, trainer = parts
    store = RunStore(folder)
    saved = checkpoint.load(folder)
    if saved is not None:
        resume(benchmark, trainer, saved)
    store.begin({"seed": 4}, {"device": "cpu"}, saved and saved["written"])
    trainer.loggers = [store, Interrupting(stop_after)]
    try:
        config = {"trainer": {"eval_every": 0, "checkpoint_every": "experience"} | options}
        result = run(benchmark, trainer, store, title="tiny", config=config, stopping=stopping)
        store.finish(result)
    finally:
        store.close()
    return result


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_the_folder(tmp_path: Path, make_parts: Callable[..., Parts]) -> None:
    """Every file of the contract, and what the result says of itself."""
    parts = make_parts()
    result = start(parts, tmp_path)
    files = {"config.yaml", "status.json", "result.json", "metrics.csv", "matrix.csv", "environment.json"}
    files |= {"checkpoint", "run.log", "accuracy.png", "matrix.png"}
    assert {path.name for path in tmp_path.iterdir()} == files
    assert all(path.is_dir() or path.stat().st_size > 0 for path in tmp_path.iterdir())
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "finished"
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert result["metrics"].keys() == result["task_aware"].keys() == METRICS.keys()
    R = result["accuracy_matrix"]
    assert [[value is not None for value in row] for row in R] == [
        [j <= max(i - 1, 0) for j in range(3)] for i in range(4)
    ]
    assert result["metrics"]["average_accuracy"] == pytest.approx(sum(R[3]) / 3)
    matrix = rows(tmp_path / "matrix.csv")
    assert matrix[0] == ["after", "0", "1", "2"]
    assert matrix[1:] == [[str(i), *("" if v is None else repr(v) for v in row)] for i, row in enumerate(R)]
    metrics = rows(tmp_path / "metrics.csv")
    assert metrics[0] == ["step", "experience", "phase", "epoch", "name", "value"]
    # 16 samples in batches of 5: 4 steps an epoch, told at the end of each.
    losses = [(int(step), int(e), phase, int(epoch)) for step, e, phase, epoch, name, _ in metrics if name == "loss/ce"]
    assert losses == [(4 * (2 * e + epoch + 1), e, "train", epoch) for e in range(3) for epoch in range(2)]


def test_cost(tmp_path: Path, make_parts: Callable[..., Parts]) -> None:
    """16 x 8 + 8 weights and biases of the body, 8 x 6 + 6 of the head: 190. 6 stored images of 16 bytes, with a class
    and a task label of 8: 192 bytes."""
    cost = start(make_parts(), tmp_path)["cost"]
    assert (cost["parameters"], cost["buffer_bytes"]) == (190, 192)
    assert cost["total_seconds"] >= cost["train_seconds"] + cost["eval_seconds"] > 0
    assert cost["samples_per_second"] == pytest.approx(3 * 2 * 16 / cost["train_seconds"])
    assert cost["peak_memory_bytes"] > 0


def test_evaluated_after_the_last_experience_alone(tmp_path: Path, make_parts: Callable[..., Parts]) -> None:
    result = start(make_parts(), tmp_path, eval_every=-1)
    R = result["accuracy_matrix"]
    assert R[:3] == [[None] * 3] * 3
    assert result["metrics"]["average_accuracy"] == pytest.approx(sum(R[3]) / 3)
    assert result["metrics"]["forgetting"] is None
    assert [row[0] for row in rows(tmp_path / "matrix.csv")] == ["after", "3"]


@pytest.mark.parametrize("extras", [False, True])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_resumed_is_uninterrupted(after: int, extras: bool, tmp_path: Path, make_parts: Callable[..., Parts]) -> None:
    check_same_bits(make_parts, tmp_path, extras=extras, stop_after=after)


class Counting:
    """stopping() that says True once, after so many questions."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("extras", [False, True])
@pytest.mark.parametrize("after", [0, 3, 4, 7, 8, 11, 20, 25])
def test_stopped_after_any_step_it_goes_on_from_there(
    after: int, extras: bool, tmp_path: Path, make_parts: Callable[..., Parts]
) -> None:
    """In the middle of an epoch, at its end, at a phase's and an experience's end."""
    stopped = check_same_bits(make_parts, tmp_path, extras=extras, stopping=Counting(after))
    assert stopped.total_step < 24


def check_same_bits(make_parts: Callable[..., Parts], folder: Path, *, extras: bool, **stop: Any) -> Trainer:
    """Weights, importances, teacher, momentum, buffer, random numbers, files, result of a run that was stopped and went
    on, from other random numbers, and of one that was not. Returns the trainer that was stopped."""
    whole, stopped, resumed = (make_parts(extras=extras) for _ in range(3))
    folders = folder / "whole", folder / "stopped"
    torch.manual_seed(1)
    expected = start(whole, folders[0])
    random = torch.get_rng_state()
    torch.manual_seed(1)
    with pytest.raises(KeyboardInterrupt):
        start(stopped, folders[1], **stop)
    torch.manual_seed(2)
    found = start(resumed, folders[1])
    for key in ("metrics", "task_aware", "accuracy_matrix", "task_aware_accuracy_matrix"):
        assert found[key] == expected[key]
    assert torch.equal(torch.get_rng_state(), random)
    saved = [checkpoint.load(at) for at in folders]
    assert saved[0].pop("data") == saved[1].pop("data") == whole[0].digest()
    for state in saved:
        for clock in ("train_seconds", "eval_seconds"):
            state["counters"].pop(clock)
    torch.testing.assert_close(saved[1], saved[0], rtol=0, atol=0, equal_nan=True)
    for name in ("matrix.csv", "metrics.csv"):
        assert rows(folders[1] / name) == rows(folders[0] / name)
    return stopped[1]


class Watching(Counting):
    """Never stops; notes where the last checkpoint stands: (experiences finished, step), None = nowhere."""

    def __init__(self, folder: Path) -> None:
        super().__init__(0)
        self.folder, self.seen = folder, [None]

    def __call__(self) -> bool:
        state = checkpoint.load(self.folder)
        at = state and (state["counters"]["finished"], state["counters"]["total_step"])
        if at != self.seen[-1]:
            self.seen.append(at)
        return False


@pytest.mark.parametrize(
    ("every", "seen"),
    [
        ("auto", []),  # never 30 s
        ("experience", [(1, 8), (2, 16)]),
        ("0.0001s", [(0, n) for n in range(1, 9)] + [(1, n) for n in range(8, 17)] + [(2, n) for n in range(16, 25)]),
        ("3", [(1, 12), (2, 24)]),
        ("1h", []),
    ],
)
def test_checkpoints_when_they_are_due(
    every: str, seen: list[tuple[int, int]], tmp_path: Path, make_parts: Callable[..., Parts]
) -> None:
    """Three experiences of two epochs of 4 steps: 24 steps. The last one, at the end, comes after the last question."""
    watching = Watching(tmp_path)
    start(make_parts(), tmp_path, stopping=watching, checkpoint_every=every)
    assert watching.seen == [None, *seen]
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert (state["counters"]["finished"], state["counters"]["total_step"]) == (3, 24)
