"""clx show RUN: one run - what is special about it, its accuracy matrix, metrics, cost and environment."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from clx.command.arguments import Parser
from clx.config import Mistake
from clx.folder import special
from clx.logger.console import matrix_table
from clx.store.files import read_json, read_yaml
from clx.store.identity import show
from clx.store.records import read
from clx.store.run import read_status


def parser() -> Parser:
    """The arguments of clx show."""
    made = Parser(prog="clx show", description=__doc__)
    made.add_argument("run", type=Path, help="the folder of a run")
    return made


def main(arguments: Sequence[str]) -> int:
    """Print what is known of a run, finished or not."""
    folder = parser().parse_args(arguments).run
    try:
        config = read_yaml(folder / "config.yaml")
        choices = config["choices"]
    except (OSError, ValueError, KeyError) as error:
        raise Mistake(f"{folder}: no run there ({error})") from error
    console = Console(width=None if sys.stdout.isatty() else 160)
    status = read_status(folder)
    console.print(f"[bold]{choices['benchmark']}/{choices['strategy']} seed {config['seed']}[/bold]  {folder}")
    reason = f": {status['reason']}" if status["reason"] else ""
    console.print(f"{status['state']}{reason}   {status.get('started', '')} to {status.get('ended') or 'now'}")
    _print_special(console, config)
    if status["state"] == "finished":
        try:
            record = read(folder)
        except ValueError as error:
            raise Mistake(f"{folder}: {error}") from error
        console.print(matrix_table(record.result["accuracy_matrix"]))
        _print_numbers(console, record.result)
    _print_environment(console, folder)
    return 0


def _print_special(console: Console, config: dict[str, Any]) -> None:
    try:
        options, values = special(config)
    except Mistake as mistake:  # an option of somebody else's folder
        console.print(f"differences unknown: {mistake}")
        return
    console.print(
        "differs from the defaults in: "
        + (", ".join(f"{key}={show(value)}" for key, value in (options | values).items()) or "nothing")
    )


def _print_numbers(console: Console, result: dict[str, Any]) -> None:
    table = Table()
    for name in ("metric", "value", "task-aware"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for name, value in result["metrics"].items():
        table.add_row(name, _number(value), _number(result["task_aware"][name]))
    console.print(table)
    cost = result["cost"]
    console.print(
        f"trained {cost['train_seconds']:.1f} s, evaluated {cost['eval_seconds']:.1f} s, "
        f"{cost['samples_per_second']:,.0f} samples/s, peak memory {cost['peak_memory_bytes'] / 2**20:,.0f} MiB, "
        f"{cost['parameters']:,} parameters, buffer {cost['buffer_bytes'] / 2**20:,.2f} MiB"
    )


def _print_environment(console: Console, folder: Path) -> None:
    try:
        environment = read_json(folder / "environment.json")
    except (OSError, ValueError):
        return
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    console.print(f"on {environment['device_name']}, {environment['threads']} threads, commit {environment['commit']}")
    console.print(versions, highlight=False)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
