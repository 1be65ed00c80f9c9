"""The console logger: plain lines where there is no terminal, the matrix at the end."""

from __future__ import annotations

import pytest

from clx.logger.base import ExperienceDone, RunFinished, RunStarted, StepDone
from clx.logger.console import Console, matrix_table


def test_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(live=True)
    console.on(RunStarted("digits/er seed 0", 2))
    for step in range(1, 100):
        console.on(StepDone(0, "train", 0, 1, step, 100, step, {"ce": 0.5}, 0.75))
    console.on(ExperienceDone(0, 2, 1.5, [0.5, None]))
    console.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "digits/er seed 0"
    assert lines[1].startswith("experience 1/2: average accuracy 0.500 on the 1 test sets measured")
    assert len(lines) == 2  # a hundred steps print nothing where nobody watches


def test_a_run_that_goes_on_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Console(live=False).on(RunStarted("x", 5, first=3))
    assert "going on after 3 of 5 experiences" in capsys.readouterr().out


def test_the_matrix_stands_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Row means count measured entries alone: (0.25 + 0.75) / 2 = 0.5; a row without any is left out."""
    matrix = [[None, None], [1.0, None], [0.25, 0.75]]
    assert matrix_table(matrix).row_count == 2
    Console(live=False).on(RunFinished({}, matrix, 1.0))
    shown = capsys.readouterr().out
    assert [word in shown for word in ("0.250", "0.750", "0.500", "start")] == [True, True, True, False]
