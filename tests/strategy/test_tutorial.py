"""The tutorial on adding a method is followed to the letter, in an empty folder."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import clx.strategy
from clx.cli import main
from clx.config import compose
from clx.strategy.finetune import Finetune

TEXT = (Path(clx.strategy.__file__).parent / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
FILES = {
    block.splitlines()[0].removeprefix("# "): block.partition("\n")[2]
    for language, block in BLOCKS
    if language in ("python", "yaml")
}
COMMANDS = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines()]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files of the tutorial in an empty folder; the package is known by nothing but the folder."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def test_the_files_are_there() -> None:
    assert set(FILES) == {"mine/__init__.py", "mine/lucir.py", "my_conf/strategy/my_lucir.yaml", "test_my_lucir.py"}


def test_its_test_passes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    tests = {name: f for name, f in runpy.run_path("test_my_lucir.py").items() if name.startswith("test_")}
    assert tests
    for function in tests.values():
        function()


def test_its_commands_run_and_the_method_is_lucir(capsys: pytest.CaptureFixture[str]) -> None:
    """Quickened by fewer epochs and samples; then the numbers of both methods are the same bits."""
    quick = ["trainer.epochs=2", "benchmark.samples_per_class=20", "model.hidden_size=16", "logger=none"]
    for line in COMMANDS:
        program, *words = shlex.split(line)
        assert program == "clx"
        assert main([*words, *quick] if words[0] != "compare" else words) == 0, line
    matrices = {}
    for path in Path("outputs").rglob("result.json"):
        result, config = json.loads(path.read_text()), str(path)
        if "lamda" not in config:
            matrices[result["strategy"]] = result["accuracy_matrix"]
    assert set(matrices) == {"my_lucir", "lucir", "icarl"}
    assert matrices["my_lucir"] == matrices["lucir"]
    table = capsys.readouterr().out
    assert "my_lucir" in table


def test_the_yaml_says_what_lucirs_says() -> None:
    """The parameters that both have, with the same values; buffer and head too."""
    mine, ours = compose(["strategy=my_lucir"], [str(Path("my_conf").absolute())]), compose(["strategy=lucir"])
    both = set(mine.strategy) & set(ours.strategy) - {"_target_", "_partial_"}
    assert both == {"K", "lw_mr", "dist", "lamda"}
    assert all(mine.strategy[key] == ours.strategy[key] for key in both)
    assert (mine.buffer, mine.model) == (ours.buffer, ours.model)


def test_every_hook_of_the_table_is_one_of_the_parent() -> None:
    named = re.findall(
        r"^\| `(\w+)\(.*?\)` \|", TEXT.partition("## The parent")[2].partition("## Step 1")[0], re.MULTILINE
    )
    assert len(named) == 9
    assert all(callable(getattr(Finetune, name)) for name in named)
