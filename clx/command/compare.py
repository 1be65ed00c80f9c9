"""clx compare: which method was better, and is that certain."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from clx.command.arguments import Parser
from clx.config import Mistake
from clx.store import table
from clx.store.compare import Group, group, ordered, where
from clx.store.identity import nearest
from clx.store.notes import notes
from clx.store.printable import printable
from clx.store.records import NAMES, Record, read_all

FORMATS = ("table", "csv", "json", "markdown", "latex")
PICTURES = (".png", ".pdf", ".svg")
KINDS = ("curves", "matrices", "time", "memory")
LeftOut = list[tuple[Path, str]]


def parser() -> Parser:
    """The arguments of clx compare."""
    made = Parser(prog="clx compare", description=__doc__)
    made.add_argument("paths", nargs="*", default=["outputs"], help="folders of runs (default: outputs)")
    made.add_argument("--by", help="keys to group by, with commas; default: all in which the runs differ")
    made.add_argument("--metric", default="average_accuracy,forgetting", help=f"names, with commas: {', '.join(NAMES)}")
    made.add_argument("--where", action="append", default=[], help="KEY=V1,V2 or KEY!=V: these runs only; repeatable")
    made.add_argument("--sort", help="a metric or a key, :asc or :desc behind it; default: best of the first metric")
    made.add_argument("--against", help="KEY=VALUE,...: the group to subtract; default: the best of each benchmark")
    made.add_argument("--format", default="table", choices=FORMATS)
    made.add_argument("--plot", help=f"draw into this file ({', '.join(PICTURES)})")
    made.add_argument("--kind", default="curves", choices=KINDS, help="what to draw (default: curves)")
    made.add_argument("--output", help="write the comparison into this file instead of the terminal")
    return made


def main(arguments: Sequence[str]) -> int:
    """Group, sum up, print."""
    args = parser().parse_args(arguments)
    metrics = metric_names(args.metric)
    if args.plot and Path(args.plot).suffix not in PICTURES:
        raise Mistake(f"--plot {args.plot}: the name must end in {', '.join(PICTURES)}")
    records, left_out = gather(args.paths, args.where)
    try:
        keys, groups = group(records, args.by.split(",") if args.by else None, metrics[0])
        if args.sort:
            by, _, order = args.sort.partition(":")
            if order not in ("", "asc", "desc"):
                raise ValueError(f"--sort {args.sort}: behind the colon stands asc or desc")
            groups = ordered(groups, by, descending={"": None, "asc": False, "desc": True}[order])
        against = _against(args.against)
        text = _text(args.format, keys, groups, metrics, left_out, against)
    except ValueError as error:
        raise Mistake(str(error)) from error
    _write(text, args.output)
    say(keys, groups, left_out)
    if args.plot:
        from clx.store.plot_groups import plot_groups  # noqa: PLC0415 - matplotlib, where a picture is asked for

        saving(args.plot, lambda: plot_groups(groups, keys, Path(args.plot), args.kind))
        print(f"drawn into {args.plot}", file=sys.stderr)
    return 0


def gather(paths: Sequence[str], conditions: Sequence[str] = ()) -> tuple[list[Record], LeftOut]:
    """The finished runs at or below the paths that fulfil the conditions, and those left out with the reason.

    Runs measured on validation data are left out where others were measured on test data, unless a condition
    asks for them. Raises Mistake where no run is left.
    """
    try:
        records, left_out = read_all(map(Path, paths))
        chosen = where(records, conditions)
    except (FileNotFoundError, ValueError) as error:
        raise Mistake(str(error)) from error
    if not chosen:
        why = f"; left out: {left_out[0][0]} ({left_out[0][1]})" if left_out else ""
        fitting = f" with {' '.join(conditions)}" if conditions and records else ""
        raise Mistake(f"no finished runs{fitting} in {', '.join(paths)}{why}")
    if len(chosen) < len(records):
        print(f"note: {len(records) - len(chosen)} runs are left out by --where", file=sys.stderr)
    on_test = [record for record in chosen if record.evaluated_on == "test"]
    if on_test and len(on_test) < len(chosen) and not any("evaluate_on" in c for c in conditions):
        reason = "measured on validation data; --where trainer.evaluate_on=validation compares those"
        left_out += [(record.folder, reason) for record in chosen if record.evaluated_on != "test"]
        chosen = on_test
    return chosen, left_out


def metric_names(text: str) -> list[str]:
    """The names of --metric. Raises Mistake for one that does not exist."""
    names = text.split(",")
    for name in names:
        if name not in NAMES:
            raise Mistake(
                f"--metric {name}: there is no such metric{nearest(name, NAMES)}; there are {', '.join(NAMES)}"
            )
    return names


def _against(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    pairs = [word.partition("=") for word in text.split(",")]
    if not all(sign for _, sign, _ in pairs):
        raise ValueError(f"--against {text}: must be KEY=VALUE, or several with commas")
    return {key: value for key, _, value in pairs}


def _text(
    style: str,
    keys: list[str],
    groups: list[Group],
    metrics: list[str],
    left_out: LeftOut,
    against: dict[str, str] | None,
) -> str:
    """The whole comparison in one of the formats."""
    if style == "json":
        return table.to_json(keys, groups, metrics, left_out, against)
    if style == "latex":
        return table.to_latex(keys, groups, metrics)
    header, rows = table.cells(keys, groups, metrics)
    if style == "csv":
        return table.to_csv(header, rows)
    parts = [(None, header, rows), *table.certainty(keys, groups, metrics[0], against)]
    if style == "markdown":
        return "\n".join((f"{title}\n\n" if title else "") + table.to_markdown(h, r) for title, h, r in parts)
    return _rendered([table.rich_table(h, r, title) for title, h, r in parts])


def _rendered(tables: Sequence[object]) -> str:
    """As wide as it needs to be where nobody looks: a pipe or a file."""
    on_terminal = sys.stdout.isatty()
    out = io.StringIO()
    console = Console(file=out, force_terminal=on_terminal, width=Console().width if on_terminal else 240)
    for entry in tables:
        console.print(entry)
    return out.getvalue()


def _write(text: str, output: str | None) -> None:
    if output is None:
        sys.stdout.write(text)
    else:
        saving(output, lambda: Path(output).write_text(text))


def saving(file: str, save: Callable[[], object]) -> None:
    """Call save; a file that cannot be written is a Mistake."""
    try:
        save()
    except OSError as error:
        raise Mistake(f"{file}: cannot be written ({error.strerror})") from error


def say(keys: Sequence[str], groups: Sequence[Group], left_out: LeftOut) -> None:
    """What a reader of the numbers should know, on standard error."""
    for note in notes(keys, groups):
        print(f"note: {note}", file=sys.stderr)
    for folder, reason in left_out:
        print(f"left out: {printable(folder)}: {printable(reason)}", file=sys.stderr)
