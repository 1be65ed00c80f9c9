"""The index: what has changed is read anew, what is gone is forgotten, and the folders stay the truth."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from clx.store import index as indices
from clx.store import records
from clx.store.files import read_many_yaml, read_yaml
from clx.store.index import FEWEST, NAME
from clx.store.records import read_all

CONFIG = {
    "seed": 0,
    "tags": ["a", "b"],
    "trainer": {"epochs": 1, "evaluate_on": "test"},
    "benchmark": {"_target_": "x", "scenario": "class_incremental"},
    "choices": {"benchmark": "tiny", "strategy": "er"},
}


def write_run(root: Path, seed: int, accuracy: float = 0.5) -> Path:
    folder = root / f"seed={seed}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"seed": seed}, sort_keys=False))
    (folder / "status.json").write_text(json.dumps({"state": "finished", "reason": None}))
    matrix = [[None, None], [1.0, None], [accuracy, 1.0]]
    result = {"schema": 1, "accuracy_matrix": matrix, "task_aware_accuracy_matrix": matrix, "cost": {}}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for seed in range(FEWEST + 2):
        write_run(tmp_path, seed)
    return tmp_path


def averages(root: Path) -> dict[int, float | None]:
    return {record.seed: record.values["average_accuracy"] for record in read_all([root])[0]}


def test_second_reading_opens_no_run(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """(0.5 + 1) / 2 = 0.75 both times; the second time from the index alone."""
    first = averages(many)
    assert set(first.values()) == {0.75}
    assert (many / NAME).exists()
    monkeypatch.setattr(records, "read_many_yaml", None)  # calling it would raise
    assert averages(many) == first


def test_a_run_that_changed_is_read_anew_and_one_that_is_gone_is_forgotten(many: Path) -> None:
    averages(many)
    folder = write_run(many, 3, accuracy=0.1)
    os.utime(folder / "result.json", ns=(1, 1))  # another time, older at that
    for file in (many / "seed=4").iterdir():
        file.unlink()
    found = averages(many)
    assert found[3] == pytest.approx(0.55)
    assert 4 not in found
    assert len(json.loads((many / NAME).read_text())["runs"]) == FEWEST + 1


@pytest.mark.parametrize("content", ["", "{", '{"schema": 99, "runs": {}}', '{"schema": 1, "runs": 3}', "[]"])
def test_a_damaged_index_is_done_without(many: Path, content: str) -> None:
    (many / NAME).write_text(content)
    assert len(averages(many)) == FEWEST + 2
    assert json.loads((many / NAME).read_text())["schema"] == indices.SCHEMA


def test_few_runs_leave_no_index(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    assert averages(tmp_path) == {0: 0.75}
    assert not (tmp_path / NAME).exists()


def test_a_damaged_run_is_left_out_with_and_without_the_index(many: Path) -> None:
    averages(many)
    (many / "seed=5" / "result.json").write_text('{"schema": 1')
    for _ in range(2):
        found, left_out = read_all([many])
        assert len(found) == FEWEST + 1
        assert [folder.name for folder, _ in left_out] == ["seed=5"]


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb:\n- x\n- y\nc: {d: 2}\n",
        "a: &one [1, 2]\nb: *one\n",
        "text: 'two\n\n  lines'\nb: |\n  block\n  more\nc: 3\n",
        "a: 1\n# a comment\nb: 2\n\nc: 3\n",
        "plain words\n  folded: 1\n",
    ],
)
def test_reading_in_parts_is_reading_as_a_whole(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    try:
        whole = read_yaml(file)
    except ValueError:
        with pytest.raises(ValueError, match=r"config\.yaml"):
            read_many_yaml(file)
    else:
        assert read_many_yaml(file) == whole
        assert list(read_many_yaml(file)) == list(whole)
