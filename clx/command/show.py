"""clx show RUN: one run - what is special about it, its accuracy matrix, metrics, cost and environment; with --diff two
runs, where they differ and why."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from clx.command.arguments import Parser
from clx.command.diff import compared, print_diff, to_json
from clx.config import Mistake
from clx.folder import special
from clx.logger.console import matrix_table
from clx.metric.matrix import to_lists
from clx.metric.summary import METRICS
from clx.store.diff import Run, read_run
from clx.store.identity import show
from clx.store.printable import printable
from clx.store.records import Record

FORMATS = ("table", "json")


def parser() -> Parser:
    """The arguments of clx show."""
    made = Parser(prog="clx show", description=__doc__)
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the folder of a run; with --diff two of them")
    made.add_argument("--diff", action="store_true", help="where two runs differ, and the likely reason")
    made.add_argument("--format", default="table", choices=FORMATS, help="of --diff (default: table)")
    return made


def main(arguments: Sequence[str]) -> int:
    """Print what is known of a run, finished or not, or of the difference between two."""
    args = parser().parse_intermixed_args(arguments)
    count = len(args.runs)
    if args.diff and count != 2:
        folders = "1 folder" if count == 1 else f"{count} folders"
        raise Mistake(f"clx show --diff: {folders} given, must be 2: clx show --diff RUN_A RUN_B")
    if not args.diff and count != 1:
        raise Mistake(f"clx show: {count} folders given, must be 1; clx show --diff RUN_A RUN_B compares two")
    if not args.diff and args.format != "table":
        raise Mistake(f"--format {args.format}: goes with --diff alone; one run's numbers are in its result.json")
    # Names and reasons come from files that somebody else may have written: nothing in them is markup.
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False)
    if not args.diff:
        _print_run(console, args.runs[0])
    elif args.format == "json":
        print(to_json(compared(*args.runs)))
    else:
        print_diff(console, compared(*args.runs))
    return 0


def _print_run(console: Console, folder: Path) -> None:
    try:
        run = read_run(folder)
    except ValueError as error:
        raise Mistake(printable(error)) from error
    status, choices = run.status, run.config["choices"]
    console.print(f"{printable(choices['benchmark'])}/{printable(choices['strategy'])} ", style="bold", end="")
    console.print(f"seed {printable(run.config['seed'])}  {printable(folder)}", soft_wrap=True)
    reason = f": {printable(status['reason'])}" if status.get("reason") else ""
    times = f"{printable(status.get('started', ''))} to {printable(status.get('ended') or 'now')}"
    console.print(f"{printable(run.state)}{reason}   {times}")
    _print_special(console, run.config)
    if run.state == "finished":
        if run.record is None:
            raise Mistake(f"{printable(folder)}: {printable(run.problem)}")
        console.print(matrix_table(to_lists(run.record.matrix)))
        _print_numbers(console, run.record)
    _print_environment(console, run)


def _print_special(console: Console, config: dict[str, Any]) -> None:
    try:
        options, values = special(config)
    except Mistake as mistake:  # an option of somebody else's folder
        console.print(f"differences unknown: {printable(mistake)}")
        return
    words = [f"{printable(key)}={printable(show(value))}" for key, value in (options | values).items()]
    console.print(f"differs from the defaults in: {', '.join(words) or 'nothing'}")


def _print_numbers(console: Console, record: Record) -> None:
    table = Table()
    for name in ("metric", "value", "task-aware"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for name in METRICS:
        table.add_row(name, *(_number(record.values[key], ".4f") for key in (name, f"task_aware/{name}")))
    console.print(table)
    cost = {name.removeprefix("cost/"): value for name, value in record.values.items() if name.startswith("cost/")}
    console.print(
        f"trained {_number(cost['train_seconds'], '.1f')} s, evaluated {_number(cost['eval_seconds'], '.1f')} s, "
        f"{_number(cost['samples_per_second'], ',.0f')} samples/s, "
        f"peak memory {_number(cost['peak_memory_bytes'], ',.0f', 2**20)} MiB, "
        f"{_number(cost['parameters'], ',.0f')} parameters, "
        f"buffer {_number(cost['buffer_bytes'], ',.2f', 2**20)} MiB"
    )


def _print_environment(console: Console, run: Run) -> None:
    environment = run.environment
    if environment is None:
        console.print("what it ran on is not known")
        return
    name, threads, commit = (printable(environment.get(key)) for key in ("device_name", "threads", "commit"))
    console.print(f"on {name}, {threads} threads, commit {commit}")
    versions = environment.get("versions")
    if isinstance(versions, Mapping):
        words = [f"{printable(name)} {printable(version)}" for name, version in versions.items()]
        console.print(", ".join(words), highlight=False)


def _number(value: object, form: str, unit: int = 1) -> str:
    """As the format says, in units; "-" for what is none."""
    return f"{value / unit:{form}}" if isinstance(value, int | float) and math.isfinite(value) else "-"
