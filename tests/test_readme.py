"""README is run: its Python, its commands, its links to files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from clx.config import Mistake
from clx.jobs import grid, master, prepare
from clx.sweep.search import Search

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
OTHER = re.compile(r"clx (compare|report|show|list|resume|data|export|verify|--from)")  # than a run or a sweep
COMMANDS = [
    shlex.split(line, comments=True)
    for language, block in BLOCKS
    if language == "bash"
    for line in block.splitlines()
    if line.startswith("clx ") and not OTHER.match(line)
]


def test_python_example_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [block for language, block in BLOCKS if language == "python"]
    assert len([line for line in example.splitlines() if not line.startswith(("from", "import")) and line]) <= 10
    exec(compile(example, "README.md", "exec"), {})
    average, last = map(float, capsys.readouterr().out.splitlines()[0].split())
    assert average > 0.7
    assert last > 0.7


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_compose_and_pass_the_check(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from clx.strategy.finetune import Finetune\nclass Method(Finetune):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for folder in (tmp_path / "DIR" / part / name for part in ("train", "test") for name in "abcdefghij"):
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "one.png")
    try:
        if "-m" in words:
            cfg = master(words[2:], ())
            if cfg.hydra.sweeper.get("_target_") == "clx.sweep.search.Search":
                assert Search(cfg, words[2:], ()).space
            else:
                assert grid(cfg, words[2:], ())
        else:
            assert prepare(words[1:], ()).overrides == words[1:]
    except Mistake as mistake:
        if "dataset-fashion-mnist" not in str(mistake):
            raise
        pytest.skip("Fashion-MNIST is not installed here")


def test_commands_were_found() -> None:
    assert len(COMMANDS) >= 6
