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
from clx.store.differences import differences, mean_ranks
from clx.store.identity import nearest
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
    metrics = _metrics(args.metric)
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
    _notes(keys, groups, left_out)
    if args.plot:
        from clx.store.plot import plot_groups  # noqa: PLC0415 - matplotlib, where a picture is asked for

        _saving(args.plot, lambda: plot_groups(groups, keys, Path(args.plot), args.kind))
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


def _metrics(text: str) -> list[str]:
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
    parts = [(None, header, rows), *_certainty(keys, groups, metrics[0], against)]
    if style == "markdown":
        return "\n".join((f"{title}\n\n" if title else "") + table.to_markdown(h, r) for title, h, r in parts)
    return _rendered([table.rich_table(h, r, title) for title, h, r in parts])


def _certainty(
    keys: list[str], groups: list[Group], metric: str, against: dict[str, str] | None
) -> list[tuple[str, list[str], table.Rows]]:
    """Further tables (title, header, rows): differences to the reference of each benchmark, ranks over several."""
    found = []
    compared = differences(groups, metric, against)
    if compared:
        references = {(e.reference.benchmark, table.label(e.reference, keys)) for e in compared}
        of = "; ".join(f"{name} on {benchmark}" for benchmark, name in sorted(references))
        title = f"difference in {metric} to {of}: paired by seed, p by permutation"
        found.append((title, *table.difference_cells(keys, compared, metric)))
    ranked = mean_ranks(groups, metric)
    if ranked is not None:
        r = ranked.ranks
        friedman = "" if r.p is None else f", Friedman p = {r.p:.3f}"
        title = f"mean rank over {r.num_benchmarks} streams, critical difference {r.critical_difference:.2f}{friedman}"
        found.append((title, *table.rank_cells(keys, ranked)))
    return found


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
        _saving(output, lambda: Path(output).write_text(text))


def _saving(file: str, save: Callable[[], object]) -> None:
    try:
        save()
    except OSError as error:
        raise Mistake(f"{file}: cannot be written ({error.strerror})") from error


def _notes(keys: Sequence[str], groups: Sequence[Group], left_out: LeftOut) -> None:
    """What a reader of the numbers should know, on standard error."""
    notes = [f"the runs differ in {', '.join(keys)} and seed"]
    if all(entry.records[0].evaluated_on == "validation" for entry in groups):
        notes.append("all of this was measured on validation data")
    for entry in groups:
        mixed = entry.mixed()
        if mixed:
            notes.append(f"{table.label(entry, keys)} averages runs that differ in {', '.join(mixed)}")
    everywhere = {seed for entry in groups for seed in entry.seeds}
    lacking: dict[tuple[int, ...], list[str]] = {}
    for entry in groups:
        missing = tuple(sorted(everywhere - set(entry.seeds)))
        lacking.setdefault(missing, []).append(f"{entry.benchmark} {table.label(entry, keys)}")
    for seeds, names in lacking.items():
        if seeds:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            notes.append(f"{', '.join(names[:3])}{more}: without seeds {', '.join(map(str, seeds))}")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    for folder, reason in left_out:
        print(f"left out: {folder}: {reason}", file=sys.stderr)
