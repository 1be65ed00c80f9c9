"""Runs from Python: a loaded strategy answers as the run did, and the table of results is that of `clx compare`."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from clx.cli import main
from clx.config import compose, plain
from clx.loop.evaluate import Evaluator
from clx.store.records import NAMES
from clx.using import load, restore, results

QUICK = [
    "trainer.epochs=1",
    "model.hidden_size=8",
    "benchmark.samples_per_class=10",
    "logger=none",
    "trainer.device=cpu",
]
TASKS = ["benchmark.scenario=task_incremental", "model/head=multi_head"]
RUNS = {
    "er": ["strategy=er", *QUICK],
    "lucir": ["strategy=lucir", *QUICK],
    "icarl": ["strategy=icarl", *QUICK],
    "expert_gate": ["strategy=expert_gate", "strategy.ae_train_epochs=1", *QUICK],
    "latent_replay": ["strategy=latent_replay", *QUICK],
    "si": ["strategy=si", "trainer.optimizer_state=keep", *QUICK],
    "multi_head": ["strategy=er", *TASKS, *QUICK],
    "pnn": ["strategy=finetune", "model=pnn", *TASKS, *(word for word in QUICK if "hidden" not in word)],
}


def make_run(folder: Path, words: list[str], code: int = 0) -> Path:
    """The folder of the one run that the words start below that folder."""
    assert main([f"output_root={folder}", *words]) == code
    (config,) = folder.rglob("config.yaml")
    return config.parent


@pytest.fixture(scope="module")
def er(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests that change it copy it."""
    return make_run(tmp_path_factory.mktemp("er"), RUNS["er"])


@pytest.fixture
def copied(er: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(er, tmp_path / "copy"))


@pytest.fixture
def stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a person's own strategy that failed in the third of five experiences."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "own_stopping.py").write_text(
        "from clx.strategy.finetune import Finetune\n"
        "class Stops(Finetune):\n"
        "    def before_task(self, experience):\n"
        "        if experience.index == 2: raise RuntimeError('no such luck')\n"
    )
    monkeypatch.syspath_prepend(str(code))
    words = ["strategy=finetune", "strategy._target_=own_stopping.Stops", "trusted_packages=[own_stopping]", *QUICK]
    words += ["trainer.checkpoint_every=experience"]
    return make_run(tmp_path / "runs", words, code=1)


def change(run: Path, **values: Any) -> None:
    """Change values of config.yaml; a__b is a.b."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    for key, value in values.items():
        *path, last = key.split("__")
        node = config
        for part in path:
            node = node[part]
        node[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("name", RUNS)
def test_a_loaded_strategy_measures_what_the_run_measured(name: str, tmp_path: Path) -> None:
    run = make_run(tmp_path, RUNS[name])
    result = json.loads((run / "result.json").read_text())
    built, strategy = restore(run), load(run)
    assert not any(module.training for module in strategy.modules())
    test = built.benchmark.test
    plain_row, aware_row = Evaluator(test, test.classes)(strategy, 512, known_classes=range(10))
    assert plain_row == result["accuracy_matrix"][-1]
    assert aware_row == result["task_aware_accuracy_matrix"][-1]
    measured = built.trainer.eval(test)
    assert [measured[f"accuracy/{j}"] for j in range(5)] == plain_row
    assert built.trainer.matrix is not None
    assert built.trainer.finished == 5


def test_what_is_loaded_answers_stored_images_and_has_its_buffer(er: Path) -> None:
    strategy = load(str(er))
    images = restore(er).benchmark.load()[1].x[:3]
    assert images.dtype == torch.uint8
    scores = strategy.inference(strategy.eval_transform(images))
    assert scores.shape == (3, 10)
    assert strategy.model.classifier.classifier.out_features == 10
    assert len(strategy.buffer) == 100  # 10 of each class, capacity 500
    assert sorted(strategy.buffer.samples().y.unique().tolist()) == list(range(10))
    assert strategy.device == torch.device("cpu")


def draws() -> tuple[float, float, float]:
    return torch.rand(()).item(), float(np.random.rand()), random.random()  # noqa: NPY002


@pytest.mark.parametrize("fails", [False, True], ids=["loads", "fails"])
def test_loading_leaves_the_global_generators_alone(copied: Path, fails: bool) -> None:
    if fails:
        change(copied, model__hidden_size=9)  # found when the weights are put in: everything is built by then

    def three(between: bool) -> list[tuple[float, float, float]]:
        torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
        seen = [draws()]
        if between and fails:
            with pytest.raises(ValueError, match="does not fit"):
                load(copied)
        elif between:
            load(copied)
        return [*seen, draws(), draws()]

    assert three(between=True) == three(between=False)


def test_a_run_that_stopped_is_loaded_as_its_last_experience_left_it(stopping: Path) -> None:
    built = restore(stopping, trusted_packages=["own_stopping"])
    assert built.trainer.finished == 2
    assert built.trainer.strategy.model.classifier.classifier.out_features == 4
    last = (stopping / "matrix.csv").read_text().splitlines()[-1].split(",")
    measured = built.trainer.eval(built.benchmark.test)
    assert last[0] == "2"
    assert [measured[f"accuracy/{j}"] for j in range(5)] == [float(cell) if cell else None for cell in last[1:]]


def test_the_code_of_a_run_is_run_only_where_it_is_trusted_again(stopping: Path) -> None:
    with pytest.raises(ValueError, match=r"wants to run code of own_stopping; .*trusted_packages=\[own_stopping\]"):
        load(stopping)
    assert type(load(stopping, trusted_packages="own_stopping")).__name__ == "Stops"


def test_no_run_no_checkpoint_and_damage_are_one_line(copied: Path, tmp_path: Path) -> None:
    def line(run: Path) -> str:
        with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as caught:
            load(run)
        return str(caught.value)

    assert line(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no run there; a run's folder holds config.yaml"
    change(copied, model__hidden_size=9)
    assert f"{copied}: its checkpoint does not fit its config.yaml (" in line(copied)
    assert "size mismatch" in line(copied)
    change(copied, model__hidden_size="many")
    assert line(copied) == "model.hidden_size=many: must be an integer"
    change(copied, model__hidden_size=8)
    for file in (copied / "checkpoint").iterdir():
        file.write_bytes(b"not a checkpoint")
    assert ".pt cannot be loaded" in line(copied)
    shutil.rmtree(copied / "checkpoint")
    assert line(copied) == f"{copied}: it holds no checkpoint; the run is finished"
    (copied / "config.yaml").write_text("[1, 2]")
    config = copied / "config.yaml"
    assert line(copied) == f"{config}: {config} holds no mapping; expected a run's config.yaml"


def test_a_device_and_data_that_are_not_there(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.device=gpu: must be auto, cpu, cuda or cuda:N"):
        load(copied, device="gpu")
    change(copied, benchmark__data=plain(compose(["benchmark=split_mnist"]))["benchmark"]["data"])
    with pytest.raises(
        ValueError, match=r"\Abenchmark\.data: the IDX files of mnist are in none of: [^\n]*\Z"
    ) as caught:
        load(copied, data_root=tmp_path / "moved")
    assert str(tmp_path / "moved") in str(caught.value)


# --- results ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two strategies, one of them with two learning rates and two seeds each; and what is to be left out."""
    root = tmp_path_factory.mktemp("many")
    swept = [f"output_root={root}", *QUICK, "strategy=er", "optimizer.lr=0.05,0.1", "seed=1,0"]
    assert main(["-m", *swept]) == 0
    assert main([f"output_root={root}", *QUICK, "strategy=finetune"]) == 0
    first = min(path.parent for path in root.rglob("result.json"))
    shutil.copytree(first, root / "twice")
    shutil.copytree(first, root / "unfinished")
    (root / "unfinished" / "result.json").unlink()
    return root


def compared(root: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert main(["compare", str(root), "--format", "json", "--metric", ",".join(NAMES)]) == 0
    return json.loads(capsys.readouterr().out)


def test_results_are_the_rows_behind_the_comparison(many: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame, expected = results(many), compared(many, capsys)
    assert list(frame.columns) == ["benchmark", "strategy", "optimizer.lr", "seed", *NAMES, "folder"]
    assert expected["keys"] == ["strategy", "optimizer.lr"]
    assert len(frame) == 5 == sum(len(group["runs"]) for group in expected["groups"])
    assert frame.attrs["left_out"] == expected["left_out"]
    assert [(Path(e["run"]).name, e["reason"].split(" (")[0]) for e in expected["left_out"]] == [
        ("twice", f"the same run as {frame['folder'].min()}"),
        ("unfinished", "not finished"),
    ]
    start = 0
    for group in expected["groups"]:
        mine = frame.iloc[start : start + len(group["seeds"])]
        start += len(group["seeds"])
        assert sorted(mine["folder"]) == sorted(group["runs"])
        assert mine["seed"].tolist() == group["seeds"]
        assert set(mine["benchmark"]) == {"split_digits"}
        for key, value in group["settings"].items():
            assert set(mine[key]) == {value}
        for name, entry in group["metrics"].items():
            assert mine[name].dropna().tolist() == entry["values"]


def test_results_of_several_places_of_numbers_and_undefined_ones(many: Path) -> None:
    frame = results([many / "split_digits" / "finetune", str(many / "split_digits" / "er")])
    assert len(frame) == 5
    assert all(pd.api.types.is_numeric_dtype(frame[name]) for name in NAMES)
    # a matrix row before any training has no class of experience 2: its column does not exist yet
    assert frame["forward_transfer"].isna().all()
    mean = frame.groupby("strategy")["average_accuracy"].mean()
    assert mean.between(0, 1).all()


def test_results_without_pandas_are_a_list(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = results(many)
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = results(many)
    assert [list(row) for row in rows] == [list(frame.columns)] * 5
    assert [row["average_accuracy"] for row in rows] == frame["average_accuracy"].tolist()
    assert {row["forward_transfer"] for row in rows} == {None}


def test_results_of_nothing_and_of_nowhere(tmp_path: Path) -> None:
    frame = results(tmp_path)
    assert len(frame) == 0
    assert list(frame.columns) == ["benchmark", "strategy", "seed", *NAMES, "folder"]
    with pytest.raises(FileNotFoundError, match="there is no such file or folder"):
        results(tmp_path / "nowhere")


def test_a_buffer_that_was_kept_on_a_gpu_is_loaded_without_one(copied: Path) -> None:
    file = copied / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["buffer"]["device"] = "cuda:4096"
    file.write_text(yaml.safe_dump(config))
    buffer = load(copied).buffer
    assert buffer is not None
    assert {values.device.type for values in buffer.rows.values()} == {"cpu"}
    assert len(buffer) > 0
