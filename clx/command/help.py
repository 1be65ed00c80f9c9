"""clx --help: what can be typed, for somebody who has never typed it; and what a shell completes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clx.command.list import GROUPS, options

COMMANDS = {
    "clx KEY=VALUE GROUP=OPTION ...": "run one experiment; bare `clx` runs a small real one in seconds",
    "clx -m KEY=V1,V2 ...": "sweep: every combination; what is finished is not run again",
    "clx compare [PATHS]": "which method was better, and is that certain: tables, intervals, pictures",
    "clx report [PATHS]": "the same as one page for a browser",
    "clx show RUN": "one run: what is special about it, its accuracy matrix, cost and environment",
    "clx show --diff RUN_A RUN_B": "where two runs differ, the first number at which they part, and the likely reason",
    "clx verify [--group NAME]": "published rows run again: what was reported, what comes out here, the verdict",
    "clx resume RUN ...": "go on with runs that were interrupted or failed",
    "clx --from FILE": "start a run from the config.yaml of another",
    "clx export RUN --format onnx": "the trained model as one file",
    "clx list [GROUP [NAME]]": "what can be chosen; with a name its parameters and their defaults",
    "clx data [fetch NAME]": "where data sets are looked for, getting and checking them",
}
EXAMPLES = {
    "clx strategy=lwf seed=1": "another method, another seed",
    "clx -m strategy=finetune,er,icarl seed=0,1,2 hydra/launcher=joblib": "nine runs, several at once",
    "clx compare --metric average_accuracy,cost/train_seconds": "what came of them",
}
FLAGS = {
    "--cfg job": "print the whole configuration, run nothing",
    "-cd DIR": "a folder of configs of your own, beside those of clx",
    "-sc install=bash": 'tab completion (zsh and fish too): eval "$(clx -sc install=bash)"',
    "--hydra-help": "Hydra's own flags",
}


def main(folders: Sequence[str] = ()) -> int:
    """Print it, in colour where somebody watches."""
    on_terminal = sys.stdout.isatty()
    console = Console(width=None if on_terminal else 120, highlight=False)
    console.print("[bold]clx[/bold]: continual-learning experiments. Compose one, run it, compare runs.\n")
    _print(console, "What you can type", COMMANDS)
    _print(console, "Examples", EXAMPLES)
    console.print("[bold]What can be chosen[/bold]  GROUP=OPTION; `clx list GROUP` says what each is")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    for group in GROUPS:
        names = options(group, folders)
        if names:
            table.add_row(f"[cyan]{group}[/cyan]", escape(", ".join(names)))
    console.print(table)
    console.print()
    _print(console, "Flags", FLAGS)
    console.print("Keys: `clx list strategy er` for those of one option, `clx --cfg job` for all.")
    return 0


def _print(console: Console, title: str, rows: Mapping[str, str]) -> None:
    console.print(f"[bold]{title}[/bold]")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    for typed, meaning in rows.items():
        table.add_row(f"[cyan]{escape(typed)}[/cyan]", escape(meaning))
    console.print(table)
    console.print()


def complete(line: str, verbs: Mapping[str, str]) -> list[str] | None:
    """What may stand at the end of the line where a verb does, or may; None = an override, which Hydra completes.

    verbs: verb -> its module. [] leaves the word to the shell, which completes names of files.
    """
    words = line.split()
    current = "" if line.endswith(" ") else words.pop()
    if len(words) == 1 and current and not current.startswith("-"):
        return [verb for verb in verbs if verb.startswith(current)] or None
    if len(words) < 2 or words[1] not in verbs:
        return None
    if words[1] == "list":
        names = list(GROUPS) if len(words) == 2 else options(words[2]) if len(words) == 3 else []
        return [name for name in names if name.startswith(current)]
    module = importlib.import_module(verbs[words[1]])
    if not current.startswith("-") or not hasattr(module, "parser"):
        return []
    flags = [flag for action in module.parser()._actions for flag in action.option_strings]
    return [flag for flag in flags if flag.startswith(current)]
