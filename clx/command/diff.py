"""What clx show --diff prints: two runs side by side, and why they differ."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from clx.config import Mistake
from clx.store.diff import ABSENT, Diff, Pair, Parting, plain_text, read_run
from clx.store.identity import show
from clx.store.printable import printable
from clx.store.reason import apart, reason


def compared(first: Path, second: Path) -> Diff:
    """The two runs. Raises Mistake for a folder that holds none."""
    try:
        return Diff((read_run(first), read_run(second)))
    except ValueError as error:
        raise Mistake(printable(error)) from error


def print_diff(console: Console, diff: Diff) -> None:
    """In sections, for people; the last line says the likely reason."""
    for name, run in zip(("first ", "second"), diff.runs, strict=True):
        line = f"{name}  {printable(run.folder)}  ({printable(run.state)})"
        console.print(line, soft_wrap=True)
    _section(console, "Configuration: decides the result", diff.deciding)
    _section(console, "Configuration: does not", diff.other)
    _section(console, "Environment", diff.environment, plain_text)
    _section(console, "Stream", diff.stream, plain_text)
    _print_numbers(console, diff)
    _print_parting(console, diff.parting)
    for name, run in zip(("first", "second"), diff.runs, strict=True):
        if run.problem is not None:
            console.print(f"the {name} run's result is not known: {printable(run.problem)}", soft_wrap=True)
    console.print()
    console.print(printable(reason(diff), longest=2000), style="bold", soft_wrap=True)


def _section(
    console: Console, title: str, differences: Mapping[str, Pair] | None, text: Callable[[Any], str] = show
) -> None:
    console.print()
    if not differences:
        console.print(f"{title}: {'not known' if differences is None else 'no difference'}")
        return
    table = _table(title, "key", "first", "second")
    for key, pair in differences.items():
        table.add_row(printable(key), *(printable(text(value), longest=200) for value in pair))
    console.print(table)


def _table(title: str, *columns: str, justify: Any = "left") -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify=justify if position else "left", overflow="fold")
    return table


def _print_numbers(console: Console, diff: Diff) -> None:
    console.print()
    if not diff.numbers:
        console.print("Outcome: not known")
        return
    table = _table("Outcome", "metric", "first", "second", "difference", justify="right")
    for name, (a, b) in diff.numbers.items():
        change = _difference(a, b)
        table.add_row(name, *(printable(text) for text in apart(a, b)), "-" if change is None else f"{change:+.4g}")
    console.print(table)


def _difference(a: Any, b: Any) -> float | None:
    """The second minus the first, where both are numbers."""
    numbers = [float(value) for value in (a, b) if isinstance(value, int | float)]
    return numbers[1] - numbers[0] if len(numbers) == 2 else None


def _print_parting(console: Console, parting: Parting | None) -> None:
    if parting is None:
        console.print("metrics.csv: not known")
        return
    if parting.identical:
        console.print(f"metrics.csv: identical, bit for bit ({parting.rows} rows)")
        return
    console.print(f"metrics.csv: the same for {parting.rows} rows, then")
    for name, row in (("first ", parting.first), ("second", parting.second)):
        words = "ends" if row is None else ", ".join(f"{key} {value}" for key, value in row.items() if value)
        console.print(f"  {name}  {printable(words)}", soft_wrap=True)


def to_json(diff: Diff) -> str:
    """The same for programs. A value that a run does not have is left out; a section that is not known is null."""
    parting, cell = diff.parting, diff.cell
    content = {
        "runs": [{"folder": str(run.folder), "state": run.state, "problem": run.problem} for run in diff.runs],
        "configuration": {"deciding": _sides(diff.deciding), "other": _sides(diff.other)},
        "environment": _sides(diff.environment),
        "stream": _sides(diff.stream),
        "outcome": {
            "identical": diff.identical,
            "numbers": {
                name: {"first": a, "second": b, "difference": _difference(a, b)}
                for name, (a, b) in diff.numbers.items()
            },
            "metrics_csv": None
            if parting is None
            else {"same_rows": parting.rows, "first": parting.first, "second": parting.second},
            "matrix": None
            if cell is None
            else {"after": cell.after, "test_set": cell.test_set, "first": cell.values[0], "second": cell.values[1]},
        },
        "reason": reason(diff),
    }
    return json.dumps(_strict(content), indent=1, allow_nan=False, default=str)


def _sides(differences: Mapping[str, Pair] | None) -> dict[str, dict[str, Any]] | None:
    if differences is None:
        return None
    return {
        key: {name: value for name, value in zip(("first", "second"), pair, strict=True) if value is not ABSENT}
        for key, pair in differences.items()
    }


def _strict(value: Any) -> Any:
    """The same with what JSON has no word for as text: inf, nan, keys that are no text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    return [_strict(item) for item in value] if isinstance(value, list | tuple) else value
