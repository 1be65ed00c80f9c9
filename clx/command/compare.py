"""clx compare: which method was better, and is that certain."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from clx.command.arguments import Parser
from clx.config import Mistake
from clx.store import table
from clx.store.compare import Group, group
from clx.store.records import NAMES, read_all, run_folders
from clx.validation import nearest

PICTURES = (".png", ".pdf", ".svg")


def parser() -> Parser:
    """The arguments of clx compare."""
    made = Parser(prog="clx compare", description=__doc__)
    made.add_argument("paths", nargs="*", default=["outputs"], help="folders of runs (default: outputs)")
    made.add_argument("--by", help="keys to group by, with commas; default: all in which the runs differ")
    made.add_argument("--metric", default="average_accuracy,forgetting", help=f"names, with commas: {', '.join(NAMES)}")
    made.add_argument("--format", default="table", choices=["table", "csv", "json", "markdown", "latex"])
    made.add_argument("--plot", help="draw accuracy over experiences into this file (.png, .pdf, .svg)")
    made.add_argument("--output", help="write the comparison into this file instead of the terminal")
    return made


def main(arguments: Sequence[str]) -> int:
    """Group, sum up, print."""
    args = parser().parse_args(arguments)
    metrics = _metrics(args.metric)
    if args.plot and Path(args.plot).suffix not in PICTURES:
        raise Mistake(f"--plot {args.plot}: the name must end in {', '.join(PICTURES)}")
    try:
        records, left_out = read_all(run_folders(map(Path, args.paths)))
    except FileNotFoundError as error:
        raise Mistake(str(error)) from error
    if not records:
        where = ", ".join(args.paths)
        why = f"; left out: {left_out[0][0]} ({left_out[0][1]})" if left_out else ""
        raise Mistake(f"no finished runs in {where}{why}")
    try:
        keys, groups = group(records, args.by.split(",") if args.by else None, metrics[0])
    except ValueError as error:
        raise Mistake(str(error)) from error
    header, rows = table.cells(keys, groups, metrics)
    texts = {
        "csv": lambda: table.to_csv(header, rows),
        "markdown": lambda: table.to_markdown(header, rows),
        "latex": lambda: table.to_latex(keys, groups, metrics),
        "json": lambda: table.to_json(keys, groups, metrics, left_out),
    }
    if args.format == "table":
        _print(table.rich_table(header, rows), args.output)
    else:
        _write(texts[args.format](), args.output)
    _notes(groups, left_out)
    if args.plot:
        from clx.store.plot import plot_groups  # noqa: PLC0415 - matplotlib, where a picture is asked for

        plot_groups(groups, keys, Path(args.plot))
        print(f"drawn into {args.plot}", file=sys.stderr)
    return 0


def _metrics(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in NAMES:
            raise Mistake(
                f"--metric {name}: there is no such metric{nearest(name, NAMES)}; there are {', '.join(NAMES)}"
            )
    return names


def _print(content: object, output: str | None) -> None:
    if output is None:
        # As wide as it needs to be where nobody looks: a pipe or a file.
        Console(width=None if sys.stdout.isatty() else 240).print(content)
        return
    with Path(output).open("w") as file:
        Console(file=file, width=240).print(content)


def _write(text: str, output: str | None) -> None:
    if output is None:
        sys.stdout.write(text)
    else:
        Path(output).write_text(text)


def _notes(groups: Sequence[Group], left_out: Sequence[tuple[Path, str]]) -> None:
    """What a reader of the numbers should know, on standard error."""
    for entry in groups:
        mixed = entry.mixed()
        if mixed:
            print(f"note: {entry.settings} averages runs that differ in {', '.join(mixed)}", file=sys.stderr)
    everywhere = sorted({seed for entry in groups for seed in entry.seeds})
    for entry in groups:
        missing = [seed for seed in everywhere if seed not in entry.seeds]
        if missing:
            print(f"note: {entry.benchmark} {entry.settings} lacks seeds {missing}", file=sys.stderr)
    for folder, reason in left_out:
        print(f"left out: {folder}: {reason}", file=sys.stderr)
