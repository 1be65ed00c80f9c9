"""The commands as they are typed: runs, sweeps, verbs, and how every mistake ends."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from clx.cli import main
from clx.config import compose, plain
from clx.folder import run_folder
from clx.metric.summary import summary
from clx.store.records import read

QUICK = ["trainer.epochs=1", "model.hidden_size=8", "benchmark.samples_per_class=10", "logger=none"]
FILES = {
    "config.yaml", "status.json", "result.json", "metrics.csv", "matrix.csv", "environment.json", "checkpoint",
    "run.log", "accuracy.png", "matrix.png",
}  # fmt: skip


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command is typed in an empty folder, with an empty data_root."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLX_DATA_ROOT", str(tmp_path / "data"))


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of the person's own, with methods that die in different ways."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "own_methods.py").write_text(
        "import sys\n"
        "from clx.strategy.finetune import Finetune\n"
        "class Fine(Finetune):\n    pass\n"
        "class Raises(Finetune):\n    def before_task(self, experience): raise RuntimeError('no such luck')\n"
        "class Exits(Finetune):\n    def before_task(self, experience): sys.exit(0)\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    return "own_methods"


def runs() -> list[Path]:
    return sorted(path.parent for path in Path("outputs").rglob("config.yaml"))


def only_run() -> Path:
    (folder,) = runs()
    return folder


def metrics(folder: Path) -> object:
    result = json.loads((folder / "result.json").read_text())
    return {key: value for key, value in result.items() if key != "cost"}


def test_a_run_leaves_its_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "logger=[console]"]) == 0
    folder = only_run()
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == FILES
    result = json.loads((folder / "result.json").read_text())
    assert (result["schema"], result["benchmark"], result["strategy"], result["seed"]) == (1, "split_digits", "er", 0)
    assert result["metrics"] == summary(read(folder).matrix)
    assert len(result["accuracy_matrix"]) == 6
    assert result["accuracy_matrix"][1][1:] == [None] * 4
    cost = result["cost"]
    assert cost["parameters"] == (64 * 8 + 8) + (8 * 10 + 10)
    assert cost["buffer_bytes"] == 100 * (64 + 8 + 8)  # 10 of each class: 64 bytes of image, class and label int64
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert f"average accuracy {result['metrics']['average_accuracy']:.4f}" in capsys.readouterr().out
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["stream"]["classes"] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert environment["versions"]["torch"]


def test_matrix_and_metrics_files_agree_with_the_result() -> None:
    assert main(QUICK) == 0
    folder = only_run()
    result = json.loads((folder / "result.json").read_text())
    lines = [line.split(",") for line in (folder / "matrix.csv").read_text().splitlines()]
    assert lines[0] == ["after", "0", "1", "2", "3", "4"]
    assert [[float(v) if v else None for v in line[1:]] for line in lines[1:]] == result["accuracy_matrix"]
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    assert rows[0] == ["step", "experience", "phase", "epoch", "name", "value"]
    final = {row[4]: float(row[5]) for row in rows[1:] if row[2] == "eval" and row[1] == "4"}
    assert [final[f"accuracy/{j}"] for j in range(5)] == result["accuracy_matrix"][-1]


def test_same_command_same_bits_alone_and_in_a_sweep() -> None:
    assert main([*QUICK, "output_root=a"]) == 0
    assert main([*QUICK, "output_root=b"]) == 0
    assert main(["-m", *QUICK, "output_root=c", "seed=0,1"]) == 0
    place = run_folder(plain(compose(QUICK)))
    first, again, swept = (metrics(Path(root) / place) for root in "abc")
    assert first == again == swept
    assert metrics(Path("c") / place.parent / "seed=1") != first


# --- identity --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([], ["strategy=er"]),
        ([], ["benchmark=split_digits", "buffer=reservoir", "buffer.capacity=500"]),
        ([], ["benchmark.num_experiences=5"]),
        ([], ["optimizer.lr=0.050"]),
        ([], ["regularizer=[]"]),
        ([], ["seed=0", "optimizer=sgd"]),
        (["regularizer=[ewc_online,lwf]"], ["regularizer=[lwf,ewc_online]"]),
        (["regularizer=lwf"], ["regularizer=[lwf]"]),
        (["trainer.epochs=3", "optimizer.lr=0.1"], ["optimizer.lr=1e-1", "trainer.epochs=3"]),
        (["strategy=finetune"], ["strategy=finetune", "buffer.capacity=7"]),  # the common keys of `none`
        ([], ["trainer.device=cpu", "trainer.num_threads=1", "trainer.checkpoint_every=2"]),
        ([], ["name=x", "tags=[a]", "data_root=elsewhere", "logger=none", "rerun=true"]),
    ],
    ids=str,
)
def test_same_identity_same_folder(one: list[str], other: list[str]) -> None:
    assert run_folder(plain(compose(one))) == run_folder(plain(compose(other)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([], ["seed=1"]),
        ([], ["buffer.capacity=501"]),
        ([], ["buffer=ring"]),
        (["strategy=lwf"], ["strategy=finetune", "regularizer=lwf"]),  # the chosen strategy is part of it
        (["strategy=joint"], ["strategy=finetune", "benchmark.accumulate=joint"]),
        ([], ["model/head=multi_head", "benchmark.scenario=task_incremental"]),
        ([], ["trusted_packages=[mine]"]),
        ([], ["benchmark.class_order=[1,0,2,3,4,5,6,7,8,9]"]),
        (["scheduler=multistep"], ["scheduler=cosine"]),
        (["regularizer=lwf"], ["regularizer=lwf", "regularizer.lwf.weight=2"]),
    ],
    ids=str,
)
def test_another_identity_another_folder(one: list[str], other: list[str]) -> None:
    assert run_folder(plain(compose(one))) != run_folder(plain(compose(other)))


def test_folder_says_what_is_special() -> None:
    def key(*overrides: str) -> str:
        return run_folder(plain(compose(overrides))).parent.name

    assert key() == "default"
    assert key("buffer=ring", "buffer.capacity=20") == "buffer=ring,buffer.capacity=20"
    assert key("regularizer=[lwf,ewc_online]") == "regularizer=[ewc_online,lwf]"
    long = key("benchmark.class_order=[1,2,3,4,5,6,7,8,9,0]", *(f"trainer.{k}=7" for k in ("epochs", "batch_size")),
               "optimizer.momentum=0.9", "model.hidden_size=77", "model.drop_rate=0.25")  # fmt: skip
    assert len(long.encode()) <= 120
    assert long.startswith("benchmark.class_order=[1,2,3")
    unsafe = key("benchmark.root='a/../b c'")
    assert "/" not in unsafe
    assert " " not in unsafe


def test_single_run_and_sweep_share_the_folder_and_nothing_is_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "buffer.capacity=30"]) == 0
    folder = only_run()
    stamp = (folder / "result.json").stat().st_mtime_ns
    assert main([*QUICK, "-m", "buffer.capacity=30,40"]) == 0
    assert len(runs()) == 2
    assert (folder / "result.json").stat().st_mtime_ns == stamp
    assert "1 of 2 runs are finished already" in capsys.readouterr().out
    assert main([*QUICK, "buffer.capacity=30"]) == 0
    assert "already finished: average accuracy" in capsys.readouterr().out
    assert main([*QUICK, "buffer.capacity=30", "rerun=true"]) == 0
    assert (folder / "result.json").stat().st_mtime_ns != stamp
    assert yaml.safe_load((folder / "config.yaml").read_text())["rerun"] is False


def test_folder_taken_by_other_defaults_is_left_alone() -> None:
    """A run made when the default was another lies in `default`; today's default gets a hash, and keeps it."""
    assert main(QUICK) == 0
    folder = only_run()
    stored = yaml.safe_load((folder / "config.yaml").read_text())
    stored["optimizer"]["lr"] = 0.123
    (folder / "config.yaml").write_text(yaml.safe_dump(stored))
    before = metrics(folder)
    assert main(QUICK) == 0
    (new,) = set(runs()) - {folder}
    assert new.parent.name.startswith(folder.parent.name + "-")
    assert metrics(new) == before
    assert run_folder(plain(compose(QUICK))) == new.relative_to("outputs")


def test_from_a_stored_config_alone(tmp_path: Path) -> None:
    assert main([*QUICK, "regularizer=[ewc_online,lwf]", "buffer=ring"]) == 0
    folder = only_run()
    stored = tmp_path / "kept.yaml"
    stored.write_text((folder / "config.yaml").read_text())
    assert main(["--from", str(stored), "output_root=again"]) == 0
    again = Path("again") / folder.relative_to("outputs")
    assert metrics(again) == metrics(folder)
    assert main(["--from", str(stored), "output_root=again", "seed=5"]) == 0
    assert (again.parent / "seed=5" / "result.json").exists()


# --- sweeps ----------------------------------------------------------------------------------------------------


def test_a_bad_value_stops_a_sweep_before_it_starts(capsys: pytest.CaptureFixture[str], own_package: str) -> None:
    typed = [*QUICK, "strategy=finetune", f"trusted_packages=[{own_package}]", "seed=0,1,2"]
    bad = [f"strategy._target_={own_package}.Fine,{own_package}.Raises", "buffer=reservoir", "buffer.capacity=5,-5"]
    assert main(["-m", *typed, *bad]) == 2
    error = capsys.readouterr().err
    assert "buffer.capacity -5" in error
    assert "of 12" in error
    assert not Path("outputs").exists()


def test_what_fails_in_a_sweep_leaves_the_rest_running(capsys: pytest.CaptureFixture[str], own_package: str) -> None:
    targets = ",".join(f"{own_package}.{name}" for name in ("Raises", "Fine", "Exits"))
    typed = [*QUICK, "strategy=finetune", f"trusted_packages=[{own_package}]", "seed=0,1,2,3"]
    assert main(["-m", *typed, f"strategy._target_={targets}"]) == 1
    states = {folder: json.loads((folder / "status.json").read_text()) for folder in runs()}
    assert len(states) == 12
    by_reason = [status["reason"] for status in states.values() if status["state"] == "failed"]
    assert sorted(by_reason) == ["RuntimeError: no such luck"] * 4 + ["sys.exit(0) was called"] * 4
    assert sum(status["state"] == "finished" for status in states.values()) == 4
    captured = capsys.readouterr()
    assert "sweep: 8 failed, 4 finished" in captured.out
    assert "no such luck" in captured.out
    failed = next(folder for folder, status in states.items() if "luck" in str(status["reason"]))
    assert "Traceback" in (failed / "run.log").read_text()


def test_what_does_not_fit_is_skipped_in_a_sweep_and_refused_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", *QUICK, "strategy=er,finetune", "buffer=none"]) == 0
    states = {f.parts[2]: json.loads((f / "status.json").read_text())["state"] for f in Path("outputs").glob("*/*/*/*")}
    assert states == {"er": "skipped", "finetune": "finished"}
    assert "needs a buffer" in capsys.readouterr().out
    assert main([*QUICK, "strategy=er", "buffer=none"]) == 2


def test_a_failed_run_exits_1_and_can_be_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "optimizer.lr=1e30"]) == 1
    assert "the loss is not finite" in capsys.readouterr().err
    assert main(["resume", str(only_run())]) == 1


# --- interruption ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on(number: int) -> None:
    typed = ["trainer.epochs=60", "logger=none", "trainer.checkpoint_every=experience"]
    assert main([*typed, "output_root=alone"]) == 0
    process = subprocess.Popen([sys.executable, "-m", "clx", *typed], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(Path("outputs").rglob("checkpoint/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    folder = only_run()
    assert process.returncode == 130, error
    assert json.loads((folder / "status.json").read_text())["state"] == "interrupted"
    assert main(["resume", str(folder)]) == 0
    assert metrics(folder) == metrics(Path("alone") / folder.relative_to("outputs"))


def test_a_reader_that_goes_away_stops_no_run() -> None:
    """As in `clx | head -1`."""
    command = [sys.executable, "-m", "clx", *QUICK[:-1], "logger=console"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.wait(timeout=60)
    assert json.loads((only_run() / "status.json").read_text())["state"] == "finished"


def test_a_folder_in_use_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """A living process has the run: whoever comes second says so and writes nothing."""
    assert main(QUICK) == 0
    status = only_run() / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"state": "running", "pid": os.getppid()}))
    before = status.read_text()
    with FileLock(status.with_name(".lock")):
        assert main(QUICK) == 2
    assert f"process {os.getppid()}" in capsys.readouterr().err
    assert status.read_text() == before


def test_a_folder_given_by_hand_is_not_shared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "hydra.run.dir=here"]) == 0
    before = Path("here/status.json").read_text()
    assert main([*QUICK, "hydra.run.dir=here", "seed=1"]) == 2
    assert "another seed" in capsys.readouterr().err
    assert Path("here/status.json").read_text() == before


# --- mistakes --------------------------------------------------------------------------------------------------

MISTAKES = {
    "strategy=erx": ("strategy=erx", "did you mean er?"),
    "model/head=incrementl": ("model/head=incrementl", "incremental"),
    "strateg=er": ("strateg", "did you mean strategy?"),
    "trainer.epocs=3": ("trainer.epocs", "trainer.epochs"),
    "+foo=1": ("foo", "no such key"),
    "+trainer.foo=1": ("trainer.foo", "no such key"),
    "+strategy.replay=1": ("strategy.replay", "replay_size"),
    "+regularizer.lwf.T=1 regularizer=lwf": ("regularizer.lwf.T", "temperature"),
    "trainer.epochs=abc": ("trainer.epochs=abc", "an integer"),
    "trainer.epochs=0": ("trainer.epochs=0", "at least 1"),
    "trainer.batch_size=0": ("trainer.batch_size=0", "at least 1"),
    "trainer.eval_every=-2": ("trainer.eval_every=-2", "at least -1"),
    "trainer.precision=float16": ("trainer.precision=float16", "bfloat16"),
    "trainer.device=gpu": ("trainer.device=gpu", "cuda"),
    "trainer.clip_norm=0": ("trainer.clip_norm=0", "greater than 0"),
    "seed=-1": ("seed=-1", "at least 0"),
    "rerun=maybe": ("rerun=maybe", "true or false"),
    "buffer.capacity=-1": ("buffer.capacity -1", "< 0"),
    "buffer.capacity=3.5": ("buffer.capacity=3.5", "an integer"),
    "buffer.capacity=abc": ("buffer.capacity=abc", "an integer"),
    "optimizer.lr=abc": ("optimizer.lr=abc", "a number"),
    "optimizer.lr=-1": ("optimizer", "-1"),
    "scheduler=multistep scheduler.milestones=5": ("scheduler.milestones=5", "a list"),
    "model.drop_rate=2": ("model.drop_rate 2", "[0, 1]"),
    "benchmark.scenario=online": ("benchmark.scenario=online", "class_incremental"),
    "benchmark.num_experiences=11": ("benchmark.num_experiences 11", "10 classes"),
    "benchmark.num_experiences=4 benchmark.classes_per_experience=2": ("num_experiences 4", "contradicts"),
    "benchmark.class_order=[0,0,1,2,3,4,5,6,7,8]": ("benchmark.class_order", "repeats class 0"),
    "benchmark.class_order=[1,2]": ("benchmark.class_order", "lacks class 0"),
    "buffer=none": ("buffer=none", "set buffer=reservoir"),
    "model/head=multi_head": ("model/head", "benchmark.scenario=task_incremental"),
    "model=simple_cnn": ("image_size 8", "set benchmark.image_size="),
    "benchmark.image_size=4": ("benchmark.image_size 4", "resize=interpolate"),
    "benchmark=split_mnist": ("clx data fetch mnist", "data_root"),
    "output_root=/dev/null/x": ("output_root", "/dev/null"),
    "strategy=[er,lwf]": ("strategy=[er,lwf]", "-m"),
    "trainer.epochs=1,2": ("trainer.epochs=1,2", "-m"),
    "strategy._target_=os.system": ("strategy._target_=os.system", "trusted_packages"),
    "strategy._target_=clx.strategy.er.Nothing": ("strategy._target_", "Nothing"),
    "strategy._target_=clx.strategy.er._ER": ("strategy._target_", "public"),
    "output_root=~/x": ("output_root=~/x", "quote"),
    "trainer.epochs={": ("trainer.epochs={", "KEY=VALUE"),
    "--cfg job strategy=erx": ("strategy=erx", "did you mean er?"),
    "~strategy": ("strategy", "strategy=..."),
    "compar": ("compar", "compare"),
    "--nonsense": ("--nonsense", "--help"),
    "-cd nowhere": ("-cd nowhere", "no such folder"),
    "compare nowhere": ("nowhere", "no such file"),
    "compare --metric accuracy .": ("--metric accuracy", "average_accuracy"),
    "compare .": ("no finished runs", "."),
    "compare --format pdf": ("--format", "latex"),
    "compare --plot x.gif": ("--plot x.gif", ".png"),
    "show nowhere": ("nowhere", "no run"),
    "list strateg": ("strateg", "did you mean strategy?"),
    "list strategy erx": ("strategy=erx", "did you mean er?"),
    "data check nothing": ("data check nothing", "digits"),
    "--from nowhere.yaml": ("nowhere.yaml", "No such file"),
    "resume nowhere": ("nowhere", "no such file"),
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_or_two_lines(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(typed.split(" ")) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert 1 <= len(captured.err.splitlines()) <= 2, captured.err
    for part in MISTAKES[typed]:
        assert part in captured.err
    assert not Path("outputs").exists()


def idx(path: Path, shape: tuple[int, ...], content: bytes) -> None:
    """An IDX file of unsigned bytes, gzipped as it is published."""
    header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    path.write_bytes(gzip.compress(header + content))


@pytest.mark.parametrize("damage", ["cut short", "not gzip", "too few labels", "class 77"])
def test_a_damaged_data_file_is_named_before_training(damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path("data/mnist")
    root.mkdir(parents=True)
    for part in ("train", "t10k"):
        idx(root / f"{part}-images-idx3-ubyte.gz", (20, 28, 28), bytes(20 * 784))
        idx(root / f"{part}-labels-idx1-ubyte.gz", (20,), bytes(range(10)) * 2)
    images, labels = root / "train-images-idx3-ubyte.gz", root / "train-labels-idx1-ubyte.gz"
    if damage == "cut short":
        images.write_bytes(images.read_bytes()[:-20])
    elif damage == "not gzip":
        images.write_bytes(b"hello")
    elif damage == "too few labels":
        idx(labels, (10,), bytes(range(10)))
    else:
        idx(labels, (20,), bytes([77] * 20))
    assert main(["benchmark=split_mnist", *QUICK]) == 2
    error = capsys.readouterr().err
    assert "train-" in error
    assert "expected" in error
    assert len(error.splitlines()) <= 2
    assert not Path("outputs").exists()


def test_full_traceback_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="no such option"):
        main(["strategy=erx"])


# --- a person's own --------------------------------------------------------------------------------------------


def test_own_method_from_own_config_folder(own_package: str) -> None:
    folder = Path("mine/strategy")
    folder.mkdir(parents=True)
    (folder / "fine.yaml").write_text(
        "# @package _global_\n# A method of my own.\n"
        f"trusted_packages: [{own_package}]\n"
        f"strategy:\n  _target_: {own_package}.Fine\n  _partial_: true\n"
    )
    assert main(["-cd", "mine", "strategy=fine", *QUICK]) == 0
    folder = only_run()
    assert folder.parts[2] == "fine"
    stored = str(folder / "config.yaml")
    # A file that is handed around cannot vouch for its own code.
    assert main(["--from", stored, "output_root=b"]) == 2
    assert main(["-cd", "mine", "strategy=fine", *QUICK]) == 0


# --- verbs -----------------------------------------------------------------------------------------------------


def test_compare_groups_by_strategy_and_keeps_benchmarks_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", *QUICK, "strategy=finetune,er", "seed=0,1,2"]) == 0
    assert main(["-m", *QUICK, "benchmark=synthetic", "strategy=er", "seed=0,1"]) == 0
    capsys.readouterr()
    assert main(["compare", "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    rows = {(g["benchmark"], g["strategy"]): g for g in content["groups"]}
    assert {key: row["seeds"] for key, row in rows.items()} == {
        ("split_digits", "er"): [0, 1, 2],
        ("split_digits", "finetune"): [0, 1, 2],
        ("synthetic", "er"): [0, 1],
    }
    row = rows["split_digits", "er"]["metrics"]["average_accuracy"]
    values = [
        read(folder).values["average_accuracy"] for folder in runs() if folder.parts[1:3] == ("split_digits", "er")
    ]
    mean = sum(values) / 3
    deviation = (sum((v - mean) ** 2 for v in values) / 2) ** 0.5
    assert row["values"] == values
    assert row["mean"] == pytest.approx(mean, abs=1e-12)
    assert row["std"] == pytest.approx(deviation, abs=1e-12)
    half = 4.302653 * deviation / 3**0.5  # t of 2 degrees of freedom at 97.5 %
    assert row["interval"] == pytest.approx([mean - half, mean + half], abs=1e-5)
    # Even when only the strategy is asked for, two benchmarks stay two rows.
    assert main(["compare", "--by", "strategy", "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3


def test_compare_shows_what_differs_and_says_what_it_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", *QUICK, "strategy=er", "buffer.capacity=10,20"]) == 0
    damaged, _ = runs()
    (damaged / "result.json").write_text("{")
    assert main([*QUICK, "strategy=agem", "buffer.capacity=20"]) == 0
    assert main([*QUICK, "strategy=er", "buffer.capacity=40"]) == 0
    capsys.readouterr()
    assert main(["compare", "--format", "json"]) == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert content["keys"] == ["strategy", "buffer.capacity"]
    assert sorted((g["strategy"], g["settings"]["buffer.capacity"]) for g in content["groups"]) == [
        ("agem", 20), ("er", 20), ("er", 40),
    ]  # fmt: skip
    assert [entry["run"] for entry in content["left_out"]] == [str(damaged)]
    assert "result.json" in captured.err


@pytest.mark.parametrize(("form", "starts"), [("csv", "benchmark,"), ("markdown", "| bench"), ("latex", r"\begin{tab")])
def test_compare_formats_and_files(form: str, starts: str) -> None:
    assert main([*QUICK]) == 0
    assert main(["compare", "--format", form, "--output", "table", "--plot", "picture.png"]) == 0
    assert Path("table").read_text().startswith(starts)
    assert Path("picture.png").read_bytes()[:4] == b"\x89PNG"


def test_show_list_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "buffer.capacity=30"]) == 0
    capsys.readouterr()
    assert main(["show", str(only_run())]) == 0
    shown = capsys.readouterr().out
    assert "buffer.capacity=30" in shown
    assert "average_accuracy" in shown
    assert "torch" in shown
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("split_digits", "simple_mlp", "icarl", "reservoir", "arXiv:1611.07725"))
    assert main(["list", "strategy", "er"]) == 0
    assert "strategy.replay_size" in capsys.readouterr().out
    assert main(["data"]) == 0
    assert "fashion_mnist" in capsys.readouterr().out
    assert main(["data", "check", "digits"]) == 0
    assert "1433 training and 364 test samples" in capsys.readouterr().out


def test_help_and_composition_need_no_torch() -> None:
    """Reading the help, a listing or a typo must not cost the import of torch."""
    code = (
        "import sys\nfrom clx.cli import main\n"
        "codes = [main(['list']), main(['strategy=erx']), main(['trainer.epocs=1'])]\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\nassert codes == [0, 2, 2]"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    helped = subprocess.run([sys.executable, "-m", "clx", "--help"], check=False, capture_output=True, text=True)
    assert helped.returncode == 0
    assert "clx compare" in helped.stdout
