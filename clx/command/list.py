"""clx list [GROUP] [NAME]: what can be chosen, what it is, and the parameters of one option."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clx.command.arguments import Parser
from clx.config import Mistake, compose, loader, option_text, plain
from clx.store.identity import flatten, nearest, show

GROUPS = (
    "benchmark",
    "model",
    "model/head",
    "strategy",
    "buffer",
    "regularizer",
    "optimizer",
    "scheduler",
    "logger",
    "experiment",
    "hydra/launcher",
    "hydra/sweeper",
)


def parser() -> Parser:
    """The arguments of clx list."""
    made = Parser(prog="clx list", description=__doc__)
    made.add_argument("group", nargs="?")
    made.add_argument("name", nargs="?")
    made.add_argument("-cd", "--config-dir", help="a folder of your own configs")
    return made


def main(arguments: Sequence[str]) -> int:
    """Print the options of every group, of one, or the parameters of one option."""
    args = parser().parse_args(arguments)
    folders = (args.config_dir,) if args.config_dir else ()
    console = Console(width=None if sys.stdout.isatty() else 160)
    if args.group is not None and args.group not in GROUPS:
        raise Mistake(
            f"{args.group}: there is no such group{nearest(args.group, GROUPS)}; there are {', '.join(GROUPS)}"
        )
    if args.name is not None:
        _print_parameters(console, args.group, args.name, folders)
        return 0
    for group in GROUPS if args.group is None else (args.group,):
        names = options(group, folders)
        if names:
            console.print(_options(group, names, folders))
        elif args.group is not None:
            console.print(f"{group}: no options yet; add your own with -cd DIR")
    return 0


def options(group: str, folders: Sequence[str] = ()) -> list[str]:
    """The options of a group, without the files that only others include."""
    repository = loader(*folders).repository
    found = repository.get_group_options(group) if repository.group_exists(group) else []
    return [name for name in found if not name.startswith("_")]


def describe(group: str, name: str, folders: Sequence[str] = ()) -> tuple[str, str]:
    """(what it is, where it is from), as the header of its file says."""
    header = []
    for line in option_text(group, name, folders).splitlines():
        if line.startswith("# @package") or not line.strip():
            continue
        if not line.startswith("#"):
            break
        header.append(line.removeprefix("#").strip())
    source = next((line.removeprefix("Source:").strip() for line in header if line.startswith("Source:")), "")
    return (header[0] if header and not header[0].startswith("Source:") else ""), source


def _options(group: str, names: list[str], folders: Sequence[str]) -> Table:
    table = Table(title=group, title_justify="left", title_style="bold")
    for column in ("option", "what it is", "source"):
        table.add_column(column, overflow="fold")
    for name in names:
        table.add_row(name, *map(escape, describe(group, name, folders)))
    return table


def _print_parameters(console: Console, group: str, name: str, folders: Sequence[str]) -> None:
    known = options(group, folders)
    if name not in known:
        raise Mistake(f"{group}={name}: there is no such option{nearest(name, known)}; there are {', '.join(known)}")
    what, source = describe(group, name, folders)
    console.print(f"[bold]{group}={name}[/bold]   {escape(f'{what} {source}'.rstrip())}", highlight=False)
    config, plainly = (plain(compose(words, folders)) for words in ([f"{group}={name}"], ["strategy=finetune"]))
    if group == "strategy":
        choices = config["choices"].items()
        brought = [f"{key}={value}" for key, value in choices if value != plainly["choices"].get(key)]
        console.print("brings " + (", ".join(word for word in brought if not word.startswith(group)) or "nothing"))
    table = Table()
    for column in ("parameter", "default", "meaning"):
        table.add_column(column, overflow="fold")
    comments = _comments(group, name, folders)
    for key, value in _values(group, name, folders, config).items():
        table.add_row(key, escape(show(value)), escape(comments.get(key.rsplit(".", 1)[-1], "")))
    console.print(table if table.rows else "no parameters")


def _values(group: str, name: str, folders: Sequence[str], config: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an option: all that its file sets, or the leaves below the group's key."""
    prefix = group.replace("/", ".")
    if group == "experiment" or group.startswith("hydra/"):
        text = option_text(group, name, folders)
        written = yaml.safe_load(text) or {}
        above = "" if "@package _global_" in text else f"{prefix}."
        return {
            above + key: value for key, value in flatten(written).items() if key != "defaults" and "_target_" not in key
        }
    leaves = {k: v for k, v in flatten(config).items() if k.startswith(f"{prefix}.") and "._" not in k}
    return {k: v for k, v in leaves.items() if not (group == "model" and k.startswith("model.head"))}


def _comments(group: str, name: str, folders: Sequence[str]) -> dict[str, str]:
    """parameter -> the comment beside it in the option's file, or in the file of the keys that options share."""
    found: dict[str, str] = {}
    for file in ("_common", name):
        for line in option_text(group, file, folders).splitlines():
            match = re.match(r"\s*(\w+):[^#]*#\s*(.+)", line)
            if match:
                found[match.group(1)] = match.group(2)
    return found
