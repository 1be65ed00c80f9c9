"""clx data [list | fetch NAME | check NAME]: where each data set is looked for, getting and checking it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from clx.build import make_data
from clx.command.arguments import Parser
from clx.command.list import options
from clx.config import Mistake, compose, plain
from clx.store.identity import nearest


def parser() -> Parser:
    """The arguments of clx data."""
    made = Parser(prog="clx data", description=__doc__)
    made.add_argument("action", nargs="?", default="list", choices=["list", "fetch", "check"])
    made.add_argument("name", nargs="?", help="a data set of `clx data list`")
    made.add_argument("--root", help="data_root (default: that of the configuration)")
    return made


def main(arguments: Sequence[str]) -> int:
    """List, fetch or check data sets."""
    args = parser().parse_args(arguments)
    known = data_sets()
    root = Path(args.root or plain(compose([]))["data_root"]).expanduser()
    if args.action == "list":
        Console(width=None if sys.stdout.isatty() else 160).print(_table(known, root))
        return 0
    if args.name not in known:
        close = nearest(args.name or "", list(known))
        raise Mistake(f"data {args.action} {args.name or ''}: name one of {', '.join(known)}{close}")
    return _fetch(known[args.name], root) if args.action == "fetch" else _check(known[args.name], root)


def data_sets() -> dict[str, Any]:
    """Every data set that an option of `benchmark` can use, by name."""
    found: dict[str, Any] = {}
    for option in options("benchmark"):
        data = make_data(plain(compose([f"benchmark={option}"])))
        found.setdefault(data.name, data)
    return found


def _table(known: dict[str, Any], root: Path) -> Table:
    table = Table(title=f"data sets (data_root {root})", title_justify="left", title_style="bold")
    for column in ("name", "shape", "classes", "there", "looked for in"):
        table.add_column(column, overflow="fold")
    for name, data in known.items():
        places = data.places(root)
        looked = "\n".join(map(str, places)) or "needs no files"
        with suppress(ValueError):  # then what only the files know stays open
            data.find(root)
        table.add_row(name, _shape(data), str(data.num_classes or "?"), _there(data, root), looked)
    return table


def _shape(data: Any) -> str:
    return "x".join(str(size or "?") for size in data.shape)  # image files have no size of their own


def _there(data: Any, root: Path) -> str:
    try:
        files = data.files(root)
    except FileNotFoundError:
        return "no"
    return f"yes: {files[0].parent}" if data.places(root) else "yes"


def _fetch(data: Any, root: Path) -> int:
    try:
        data.fetch(root)
        files = data.files(root)
    except ValueError as error:
        raise Mistake(str(error)) from error
    except OSError as error:
        print(f"clx: {data.name} could not be downloaded: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    print(f"{data.name}: {', '.join(map(str, files))}")
    return 0


def _check(data: Any, root: Path) -> int:
    try:
        train, test = data.check(root)
    except (OSError, ValueError) as error:
        raise Mistake(str(error)) from error
    print(f"{data.name}: {train} training and {test} test samples of shape {_shape(data)}, as expected")
    return 0
