"""The help a newcomer reads, and what a shell completes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clx.cli import VERBS, main
from clx.command.help import COMMANDS, complete
from clx.command.list import GROUPS, options


def test_help_names_every_command_group_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for verb in VERBS:
        assert any(f"clx {verb}" in typed for typed in COMMANDS)
        assert f"clx {verb}" in said
    words = said.replace(",", " ").split()
    for group in GROUPS:
        assert group in words
        assert set(options(group)) <= set(words)
    assert "_common" not in said
    assert "\x1b" not in said  # plain where nobody watches


def test_help_is_coloured_on_a_terminal_and_plain_where_asked() -> None:
    """A pseudo-terminal of its own makes the command think that somebody watches."""
    code = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-m', 'clx', '--help']) >> 8)"
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")} | {"TERM": "xterm-256color"}
    for environment, coloured in ((plain, True), (plain | {"NO_COLOR": "1"}, False)):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, env=environment, check=True, timeout=60
        )
        assert (b"\x1b[36m" in done.stdout) == coloured
        assert b"clx compare" in done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("clx comp", ["compare"]),
        ("clx re", ["resume", "report"]),
        ("clx strat", None),  # an override: Hydra's
        ("clx -m ", None),
        ("clx compare --wh", ["--where"]),
        ("clx show out", []),  # a file: the shell's
        ("clx list model/h", ["model/head"]),
        ("clx list strategy fine", ["finetune"]),
        ("clx list strategy finetune ", []),
    ],
)
def test_what_may_stand_there(line: str, expected: list[str] | None) -> None:
    assert complete(line, VERBS) == expected


@pytest.mark.parametrize(
    ("line", "among"),
    [("clx strategy=luc", "strategy=lucir"), ("clx ", "compare"), ("clx ", "strategy="), ("clx show --he", "--help")],
)
def test_the_shell_is_answered(line: str, among: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    environment = os.environ | {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = [sys.executable, "-m", "clx", "-sc", "query=bash"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, cwd=tmp_path)
    assert among in done.stdout.split()
