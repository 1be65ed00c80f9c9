"""Published numbers: the rows that the headers of conf/experiment/ hold, for clx verify."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clx.command.list import describe, options
from clx.config import Mistake, option_text
from clx.store.identity import nearest
from clx.store.records import NAMES

# The header of an experiment is the one home of its numbers: a comment, so it cannot reach the run's configuration.
LINE = re.compile(r"^# (Group|Expected|Command): (.*)$", re.MULTILINE)
EXPECTED = re.compile(
    r"(?P<metric>\S+) (?P<value>\d+\.\d+) \+- (?P<tolerance>\d+\.\d+), seeds (?P<seeds>[\d,]+?)(?P<mark>, unchecked)?"
)
FORM = "METRIC VALUE +- TOLERANCE, seeds N,N,...[, unchecked]"


@dataclass(frozen=True)
class Row:
    """One published number: what to type, and what should come out.

    tolerance: the largest difference of the mean over seeds that agrees. checked: whether the number was compared
    with its source. words: of the command, without `clx`.
    """

    experiment: str
    group: str
    source: str
    words: tuple[str, ...]
    metric: str
    reported: float
    tolerance: float
    seeds: tuple[int, ...]
    checked: bool

    @property
    def command(self) -> str:
        return shlex.join(("clx", *self.words))


def all_rows(folders: Sequence[str] = ()) -> list[Row]:
    """The rows of every experiment, those of a group together. Raises Mistake for a header that cannot be read."""
    found = [
        row
        for name in options("experiment", folders)
        for row in rows_of(name, option_text("experiment", name, folders), describe("experiment", name, folders)[1])
    ]
    return sorted(found, key=lambda row: row.group)


def rows_of(experiment: str, text: str, source: str) -> list[Row]:
    """The rows in the header of an experiment's file: each `# Command:` line with the `# Expected:` lines before it.

    A command without expected numbers is no row. Raises Mistake for a line of another form.
    """
    found, waiting, group = [], [], ""
    for kind, value in LINE.findall(text):
        if kind == "Group":
            group = value.strip()
        elif kind == "Expected":
            waiting.append(value.strip())
        else:
            words = typed(experiment, value)
            if waiting and (not group or words[:2] != ("clx", f"experiment={experiment}")):
                raise Mistake(
                    f"experiment={experiment}: rows need a line `# Group: NAME` above them, and commands that begin "
                    f"with `clx experiment={experiment}`"
                )
            found += [Row(experiment, group, source, words[1:], **expectation(experiment, line)) for line in waiting]
            waiting = []
    if waiting:
        raise Mistake(f"experiment={experiment}: `# Expected: {waiting[0]}` has no line `# Command: ...` below it")
    return found


def typed(experiment: str, command: str) -> tuple[str, ...]:
    """The words of a `# Command:` line, as a shell would split them. Raises Mistake where a quote is left open."""
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise Mistake(f"experiment={experiment}: `# Command: {command}`: {error}") from error


def expectation(experiment: str, text: str) -> dict[str, Any]:
    """What one `# Expected:` line says. Raises Mistake where it cannot be read."""
    match = EXPECTED.fullmatch(text)
    if match is None or match["metric"] not in NAMES:
        raise Mistake(
            f"experiment={experiment}: `# Expected: {text}` must be {FORM}; METRIC is one of {', '.join(NAMES)}"
        )
    return {
        "metric": match["metric"],
        "reported": float(match["value"]),
        "tolerance": float(match["tolerance"]),
        "seeds": numbers(match["seeds"], f"experiment={experiment}: seeds "),
        "checked": match["mark"] is None,
    }


def numbers(text: str, where: str) -> tuple[int, ...]:
    """Seeds with commas between. Raises Mistake, beginning with where."""
    found = tuple(map(int, text.split(","))) if re.fullmatch(r"\d{1,18}(,\d{1,18})*", text) else ()
    if not found or len(set(found)) < len(found):
        raise Mistake(f"{where}{text}: must be different whole numbers with commas between, as in 0,1,2")
    return found


def chosen(rows: Sequence[Row], group: str | None) -> list[Row]:
    """The rows of a group or of an experiment. Raises Mistake where there is none of that name."""
    found = [row for row in rows if group in (None, row.group, row.experiment)]
    if not found:
        groups = sorted({row.group for row in rows})
        close = nearest(str(group), [*groups, *(row.experiment for row in rows)])
        raise Mistake(
            f"--group {group}: there is no such group{close}; there are {', '.join(groups)}, or any experiment"
        )
    return found
