"""clx report: one page about many runs, in a single file that opens without a network."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from clx.command.arguments import Parser
from clx.command.compare import gather, metric_names, saving, say
from clx.config import Mistake
from clx.store.compare import group
from clx.store.records import NAMES
from clx.store.report import write_report


def parser() -> Parser:
    """The arguments of clx report."""
    made = Parser(prog="clx report", description=__doc__)
    made.add_argument("paths", nargs="*", default=["outputs"], help="folders of runs (default: outputs)")
    made.add_argument("-o", "--output", default="report.html", help="the file to write (default: report.html)")
    made.add_argument("--by", help="keys to group by, with commas; default: all in which the runs differ")
    made.add_argument("--metric", default="average_accuracy,forgetting", help=f"names, with commas: {', '.join(NAMES)}")
    made.add_argument("--where", action="append", default=[], help="KEY=V1,V2 or KEY!=V: these runs only; repeatable")
    return made


def main(arguments: Sequence[str]) -> int:
    """Group, sum up, write."""
    args = parser().parse_intermixed_args(arguments)
    metrics = metric_names(args.metric)
    records, left_out = gather(args.paths, args.where)
    title = f"Runs in {', '.join(args.paths)}"
    try:
        keys, groups = group(records, args.by.split(",") if args.by else None, metrics[0])
        saving(args.output, lambda: write_report(Path(args.output), keys, groups, metrics, left_out, title))
    except (ValueError, ImportError) as error:
        raise Mistake(str(error)) from error
    say(keys, groups, left_out)
    print(f"written into {args.output}", file=sys.stderr)
    return 0
