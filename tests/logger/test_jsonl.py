"""JSON lines: what each event leaves, and what a run that goes on keeps."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clx.logger.base import Evaluated, RunStarted, StepDone
from clx.logger.jsonl import JSONLines

Series = dict[str, list[tuple[int, float]]]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def series(content: list[dict[str, Any]]) -> Series:
    found = defaultdict(list)
    for line in content:
        for name, value in line.items():
            if name.startswith(("loss/", "accuracy/", "task_aware_accuracy/", "train_accuracy")):
                found[name].append((line["total_step"], value))
    return dict(found)


def test_a_line_for_each_event(
    folder: Path, tell: Callable[..., None], curves: Series, summary: dict[str, float]
) -> None:
    tell(JSONLines(None), folder)
    content = lines(folder / "events.jsonl")
    order = ["started", "evaluated", "step", "evaluated", "experience", "step", "evaluated", "experience", "finished"]
    assert [line["event"] for line in content] == order
    assert all(line["time"] > 1.7e9 for line in content)
    started, *_, finished = content
    assert (started["title"], started["num_experiences"], started["folder"]) == ("digits/er seed 3", 2, str(folder))
    assert started["config"]["strategy.replay_size"] == 4
    assert series(content) == curves
    assert content[2] | {"time": 0} == {
        "event": "step",
        "time": 0,
        "experience": 0,
        "phase": "train",
        "epoch": 0,
        "total_step": 2,
        "loss/ce": 0.5,
        "train_accuracy": 0.75,
    }
    assert {name: value for name, value in finished.items() if "/" in name} == summary
    assert finished["matrix"] == [[None, None], [1.0, None], [0.25, 0.75]]
    assert finished["task_aware_matrix"] == [[None, None], [1.0, None], [0.75, 1.0]]


def test_each_evaluation_names_its_experience(tmp_path: Path) -> None:
    """Before training, in the middle of experience 1, after it."""
    logger = JSONLines(None)
    logger.on(RunStarted("x", 2, folder=tmp_path))
    for event in (Evaluated(0, [], [], 0), Evaluated(1, [], [], 6, epoch=0), Evaluated(2, [], [], 8)):
        logger.on(event)
    logger.close()
    found = [(line["experience"], line["epoch"]) for line in lines(tmp_path / "events.jsonl")[1:-1]]
    assert found == [(0, None), (1, 0), (1, None)]


def test_a_run_that_failed_says_so(folder: Path, tell: Callable[..., None]) -> None:
    tell(JSONLines(None), folder, finish=False)
    assert lines(folder / "events.jsonl")[-1]["event"] == "failed"


def test_a_run_that_starts_anew_leaves_nothing_of_the_old(folder: Path, tell: Callable[..., None]) -> None:
    for _ in range(2):
        tell(JSONLines(None), folder)
    assert len(lines(folder / "events.jsonl")) == 9


def test_a_line_that_was_cut_off_is_dropped(folder: Path) -> None:
    start = '{"event": "started", "experience": 0}\n'
    (folder / "events.jsonl").write_text(start + '{"event": "step", "experi')
    logger = JSONLines(None)
    logger.on(RunStarted("x", 2, first=1, folder=folder))
    logger.close()
    assert [line["event"] for line in lines(folder / "events.jsonl")] == ["started", "started", "failed"]


def test_a_path_of_ones_own(tmp_path: Path, tell: Callable[..., None], folder: Path) -> None:
    """It works without a folder; another run's file, or one of another kind, stays as it is."""
    path = tmp_path / "deep" / "mine.jsonl"
    for _ in range(2):
        tell(JSONLines(str(path)), None)
        assert len(lines(path)) == 9
    with pytest.raises(ValueError, match=r"path .*mine.jsonl holds something other than this run"):
        tell(JSONLines(str(path)), folder)
    assert len(lines(path)) == 9
    path.write_text("my notes\n")
    with pytest.raises(ValueError, match="give each run a file of its own"):
        tell(JSONLines(str(path)), None)
    assert path.read_text() == "my notes\n"


def test_no_place_to_write() -> None:
    with pytest.raises(ValueError, match="give the logger a path"):
        JSONLines(None).on(StepDone(0, "train", 0, 1, 1, 1, 1, {"ce": 0.5}))


def test_a_real_run(tmp_path: Path, train: Callable[..., None], recorded: Callable[[Path], Series]) -> None:
    train(tmp_path, JSONLines(None))
    found = series(lines(tmp_path / "events.jsonl"))
    own = recorded(tmp_path)
    assert [step for step, _ in own["loss/ce"]] == [4, 8, 12, 16, 20, 24]
    assert {name: found[name] for name in own} == own


def test_a_resumed_run_tells_nothing_twice(
    tmp_path: Path, train: Callable[..., None], recorded: Callable[[Path], Series]
) -> None:
    """Stopped at step 12, in experience 1; the checkpoint is of step 8."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, JSONLines(None), stop_at=12)
    content = lines(tmp_path / "events.jsonl")
    assert [line["event"] for line in content[-2:]] == ["step", "killed"]
    assert content[-2]["total_step"] == 12
    train(tmp_path, JSONLines(None))
    content = lines(tmp_path / "events.jsonl")
    own = recorded(tmp_path)
    assert {name: series(content)[name] for name in own} == own
    assert [line["experience"] for line in content if line["event"] == "started"] == [0, 1]
    assert [line["experience"] for line in content if line["event"] == "experience"] == [0, 1, 2]
    assert content[-1]["event"] == "finished"
    assert not {"killed", "failed"} & {line["event"] for line in content}
