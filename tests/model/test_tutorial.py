"""The tutorial on models is followed from top to bottom, and prints what it says it prints."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import clx.model
from clx.cli import main
from clx.command.list import options
from clx.jobs import prepare

TEXT = (Path(clx.model.__file__).parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", TEXT, re.DOTALL)
COMMANDS = [
    shlex.split(line) for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()
]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("mynets", None)  # the module of the last block


def test_every_block_prints_what_stands_beneath_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    namespace: dict[str, object] = {}
    assert len(BLOCKS) >= 12
    for code, printed in BLOCKS:
        exec(compile(code, "clx/model/README.md", "exec"), namespace)
        assert capsys.readouterr().out == printed, code
    quick = ["trainer.epochs=1", "benchmark.samples_per_class=5", "logger=none"]
    assert main([*COMMANDS[-1][1:], *quick]) == 0  # the network of the last block
    (written,) = tmp_path.glob("outputs/**/config.yaml")
    assert "mynets.Wide" in written.read_text(encoding="utf-8")


def test_every_printed_text_belongs_to_a_block() -> None:
    assert TEXT.count("```text\n") == sum(bool(printed) for _, printed in BLOCKS)
    assert TEXT.count("```python\n") == len(BLOCKS)


@pytest.mark.parametrize("words", COMMANDS[:-1], ids=" ".join)
def test_commands_compose_pass_the_check_and_build(words: list[str]) -> None:
    assert prepare(words[1:], ()).overrides == words[1:]


def test_every_network_and_head_is_named() -> None:
    typed = {word.removeprefix("model=") for words in COMMANDS for word in words if word.startswith("model=")}
    assert typed - {"wide"} == set(options("model"))
    table = TEXT.partition("## All heads")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(options("model/head"))
