"""A search: on validation data alone, going on where it stopped, with the same trials as one that never stopped."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from clx.cli import main

QUICK = ["trainer.epochs=1", "model.hidden_size=8", "logger=none", "strategy=er", "benchmark.validation_fraction=0.2"]
SPACE = ["optimizer.lr=tag(log,interval(0.01,0.5))", "buffer.capacity=choice(20,50)"]
SEARCH = ["-m", "hydra/sweeper=optuna", *QUICK, *SPACE]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trials(said: str) -> list[str]:
    return re.findall(r"^\[\d+/\d+\].*$", said, re.MULTILINE)


def found() -> dict[str, object]:
    (file,) = Path("outputs/searches").rglob("best.yaml")
    content = yaml.safe_load(file.read_text())
    assert isinstance(content, dict)
    return content


def test_finds_the_best_of_what_it_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SEARCH, "hydra.sweeper.n_trials=4"]) == 0
    said = capsys.readouterr().out
    values = [float(line.split("average_accuracy ")[1]) for line in trials(said)]
    assert len(values) == 4
    best = found()["best"][0]
    assert best["values"][0] == pytest.approx(max(values), abs=5e-5)
    assert best["trial"] == 1 + values.index(max(values))
    assert set(best["params"]) == {"optimizer.lr", "buffer.capacity"}
    assert all(0.01 <= float(lr) <= 0.5 for lr in re.findall(r"optimizer\.lr=(\S+)", said))
    (command,) = re.findall(r"^  clx (.*)$", said, re.MULTILINE)
    assert "evaluate_on" not in command
    assert main(command.split()) == 0  # on test data, as it stands
    folders = [json.loads(file.read_text()) for file in Path("outputs").rglob("result.json")]
    assert sorted(result["evaluated_on"] for result in folders) == ["test", *["validation"] * 4]


def test_stopped_and_started_again_it_has_as_many_trials_as_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """First with 3, then with 6 in all: 3 more; the same trials as a search that never stopped."""
    assert main([*SEARCH, "hydra.sweeper.n_trials=3"]) == 0
    first = trials(capsys.readouterr().out.replace("/3]", "/6]"))
    assert main([*SEARCH, "hydra.sweeper.n_trials=6"]) == 0
    second = trials(capsys.readouterr().out)
    assert main([*SEARCH, "hydra.sweeper.n_trials=6", "output_root=whole"]) == 0
    assert first + second == trials(capsys.readouterr().out)
    assert found()["trials"] == 6
    assert main([*SEARCH, "hydra.sweeper.n_trials=6"]) == 0
    assert trials(capsys.readouterr().out) == []


@pytest.mark.slow
def test_twenty_trials_killed_after_eight() -> None:
    command = [sys.executable, "-m", "clx", *SEARCH, "hydra.sweeper.n_trials=20"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("[8/20]"):
            break
    time.sleep(0.3)  # into the ninth
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "8 trials so far" in done.stdout or "9 trials so far" in done.stdout or "10 trials so far" in done.stdout
    assert done.stdout.count("[20/20]") == 1
    assert found()["trials"] == 20
    assert len(list(Path("outputs").rglob("result.json"))) == 20


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A data set whose test images cannot be looked at: whatever torch is asked to do with them raises."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "own_data.py").write_text(
        "import torch\n"
        "from clx.data.dataset import Arrays\n"
        "from clx.data.synthetic import Synthetic\n"
        "class Secret(torch.Tensor):\n"
        "    @classmethod\n"
        "    def __torch_function__(cls, function, types, args=(), kwargs=None):\n"
        "        raise AssertionError('the test images were touched')\n"
        "class Poisoned(Synthetic):\n"
        "    def load(self, root):\n"
        "        train, test = super().load(root)\n"
        "        return train, Arrays(test.x.as_subclass(Secret), test.y)\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    return ["benchmark=synthetic", "benchmark.data._target_=own_data.Poisoned", "trusted_packages=[own_data]"]


def test_test_data_is_never_read(poisoned: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SEARCH, *poisoned, "hydra.sweeper.n_trials=3"]) == 0
    assert len(trials(capsys.readouterr().out)) == 3
    # The poison works: an ordinary run dies of it.
    assert main([*QUICK, *poisoned]) == 1
    assert "the test images were touched" in capsys.readouterr().err


def test_only_the_first_experiences(poisoned: list[str]) -> None:
    """The stream of the trials has two experiences, and so has their matrix."""
    assert main([*SEARCH, *poisoned, "hydra.sweeper.n_trials=2", "trainer.validate_only_first=2"]) == 0
    for file in Path("outputs").rglob("result.json"):
        matrix = json.loads(file.read_text())["accuracy_matrix"]
        assert (len(matrix), len(matrix[0])) == (3, 2)


def test_a_trial_that_fails_is_counted_and_the_search_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """lr 1e30 gives a loss that is not finite in every trial but those at 0.05."""
    words = ["optimizer.lr=choice(0.05,1e30)", "hydra.sweeper.n_trials=6", "hydra.sweeper.sampler=random"]
    assert main(["-m", "hydra/sweeper=optuna", *QUICK, *words]) == 0
    said = trials(capsys.readouterr().out)
    assert len(said) == 6
    assert any("not finished (failed)" in line for line in said)
    assert [entry["params"] for entry in found()["best"]] == [{"optimizer.lr": 0.05}]


def test_two_objectives_give_what_nobody_beats_in_both(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "objective=[average_accuracy,cost/parameters]",
        "hydra.sweeper.n_trials=3",
        "model.hidden_size=choice(4,8,16)",
    ]
    assert main([*SEARCH[:2], *QUICK[:1], *QUICK[2:], *words]) == 0
    best = found()["best"]
    values = [tuple(entry["values"]) for entry in best]
    assert not any(a[0] >= b[0] and a[1] <= b[1] and a != b for a in values for b in values)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra/sweeper=optuna", *QUICK], "hydra/sweeper=optuna: nothing to search"),
        ([*SEARCH[1:], "objective=accuracy"], "objective=accuracy: there is no such metric"),
        ([*SEARCH[1:], "trainer.evaluate_on=test"], "a search never looks at test data"),
        ([*SEARCH[1:], "benchmark.validation_fraction=0"], "benchmark.validation_fraction"),
        ([*SEARCH[1:], "hydra.sweeper.sampler=tp"], "hydra.sweeper.sampler=tp: must be one of tpe, "),
        ([*SEARCH[1:], "hydra.sweeper.direction=up"], "hydra.sweeper.direction=up: maximize or minimize"),
        ([*SEARCH[1:], "trainer.validate_only_first=9"], "the stream has 5 experiences"),
    ],
)
def test_mistakes(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(Path().rglob("result.json"))
