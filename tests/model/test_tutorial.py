"""The tutorial on models is followed from top to bottom, and prints what it says it prints."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

import clx.model
from clx.cli import main
from clx.command.list import options
from clx.config import Mistake
from clx.jobs import prepare

TEXT = (Path(clx.model.__file__).parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", TEXT, re.DOTALL)
COMMANDS = [
    shlex.split(line) for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()
]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_every_block_prints_what_stands_beneath_it(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, object] = {}
    assert len(BLOCKS) >= 12
    for code, printed in BLOCKS:
        exec(compile(code, "clx/model/README.md", "exec"), namespace)
        assert capsys.readouterr().out == printed, code
    quick = ["trainer.epochs=1", "benchmark.samples_per_class=5", "logger=none"]
    assert main([*COMMANDS[-1][1:], *quick]) == 0  # the network of the last block
    sys.modules.pop("mynets")


@pytest.mark.parametrize("words", COMMANDS[:-1], ids=" ".join)
def test_commands_compose_and_build(words: list[str]) -> None:
    """Some networks cannot take images of 8x8; then they say so, and the size named there will do."""
    try:
        prepare(words[1:], ())
    except Mistake as mistake:
        size = re.search(r"benchmark\.image_size=\d+", str(mistake))
        if size is None:
            raise
        prepare([*words[1:], size.group()], ())


def test_every_head_is_in_the_table() -> None:
    table = TEXT.partition("## All heads")[2].partition("```python")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) >= set(options("model/head"))
