"""clx verify: published rows run again; what was reported, what comes out here, and whether they agree."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from clx import jobs
from clx.build import make_data
from clx.command.arguments import Parser
from clx.command.published import Row, all_rows, chosen, numbers
from clx.config import Mistake, plain
from clx.metric.interval import estimate
from clx.store.identity import NOT_IDENTITY
from clx.store.records import read
from clx.store.run import read_status
from clx.store.table import rich_table
from clx.sweep.grid import complete
from clx.sweep.launch import Launcher

GOOD = "within"


@dataclass(frozen=True)
class Outcome:
    """What became of a row. values: of the seeds that finished. reason: why it was not run, or did not finish."""

    row: Row
    values: tuple[float, ...] = ()
    reason: str | None = None
    ran: bool = True

    @property
    def verdict(self) -> str:
        """within, above or below the tolerance; not run, or not finished, with the reason."""
        if self.reason is not None:
            return f"{'not finished' if self.ran else 'not run'}: {self.reason}"
        difference = sum(self.values) / len(self.values) - self.row.reported
        # Numbers with four decimals at exactly the tolerance agree, whatever their binary form.
        return GOOD if abs(difference) <= self.row.tolerance + 1e-9 else "above" if difference > 0 else "below"


def parser() -> Parser:
    """The arguments of clx verify."""
    made = Parser(prog="clx verify", description=__doc__)
    made.add_argument(
        "words", nargs="*", metavar="KEY=VALUE", help="where and on what: data_root=DIR, hydra/launcher=..."
    )
    made.add_argument("--group", help="the rows of one group, or of one experiment; default: all")
    made.add_argument("--seeds", help="with commas, instead of those of each row")
    made.add_argument("--list", action="store_true", help="what there is, and whether its data is there; run nothing")
    made.add_argument("--json", action="store_true", help="for programs")
    made.add_argument("-cd", "--config-dir", help="a folder of your own configs, whose experiments may have rows too")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run what has data and is not finished yet, print the table; 0 where all that ran agrees, else 1."""
    args = parser().parse_intermixed_args(arguments)
    if args.config_dir is not None and not Path(args.config_dir).is_dir():
        raise Mistake(f"-cd {args.config_dir}: there is no such folder")
    folders = () if args.config_dir is None else (str(Path(args.config_dir).absolute()),)
    check_words(args.words)
    rows = chosen(all_rows(folders), args.group)
    if args.seeds is not None:
        rows = [dataclasses.replace(row, seeds=numbers(args.seeds, "--seeds ")) for row in rows]
    if args.list:
        show_list(rows, args.words, folders, as_json=args.json)
        return 0
    outcomes, whole = verify(rows, args.words, folders, say=not args.json)
    show(outcomes, as_json=args.json)
    if not whole:
        return 130
    return int(any(outcome.ran and outcome.verdict != GOOD for outcome in outcomes))


def check_words(words: Sequence[str]) -> None:
    """Raise Mistake for a word that would make another run of a row."""
    allowed = sorted(NOT_IDENTITY - {"choices", "objective", "trainer.ensemble"})
    for word in words:
        key = word.lstrip("+~").partition("=")[0]
        if key not in allowed and not key.startswith(("hydra/launcher", "hydra.launcher.", "hydra.job.")):
            raise Mistake(
                f"{word}: a row runs as it is written; only {', '.join(allowed)} and hydra/launcher can be set"
            )


def lacking(rows: Sequence[Row], words: Sequence[str], folders: Sequence[str]) -> dict[Row, str | None]:
    """For each row the name of the data set that it needs and that is not there, or None. Raises Mistake."""
    commands = dict.fromkeys(row.words for row in rows)
    found = {typed: missing_data([*typed, *jobs.split(words)[0]], folders) for typed in commands}
    return {row: found[row.words] for row in rows}


def missing_data(words: Sequence[str], folders: Sequence[str]) -> str | None:
    """The name of the data set that a run needs and that is not there, or None. Raises Mistake."""
    config = plain(jobs.composed(words, folders))
    data = make_data(config)
    try:
        data.files(Path(config["benchmark"]["root"] or config["data_root"]).expanduser())
    except FileNotFoundError:
        return str(data.name)
    return None


def verify(
    rows: Sequence[Row], words: Sequence[str], folders: Sequence[str], *, say: bool
) -> tuple[list[Outcome], bool]:
    """(what became of each row, False where a signal ended it). Raises Mistake before anything has been started."""
    master = jobs.master(words, folders)
    without = lacking(rows, words, folders)
    planned: dict[tuple[Any, ...], list[jobs.Job]] = {}  # of the rows that share a command, the runs are the same
    for row in rows:
        if without[row] is None and (row.words, row.seeds) not in planned:
            seeds = f"seed={','.join(map(str, row.seeds))}"
            try:
                planned[row.words, row.seeds] = jobs.grid(master, [*row.words, *words, seeds], folders)
            except Mistake as mistake:
                raise Mistake(f"{row.command}: {mistake}") from mistake
    whole = True
    if planned:
        launch = Launcher(master)
        whole = complete(list(chain(*planned.values())), launch, Path(master.output_root), say=say)
        launch.close()
    outcomes = [
        Outcome(row, reason=f"{without[row]} is not there", ran=False)
        if without[row] is not None
        else outcome(row, [job.folder for job in planned[row.words, row.seeds]])
        for row in rows
    ]
    return outcomes, whole


def outcome(row: Row, folders: Sequence[Path]) -> Outcome:
    """What the folders of a row's runs say."""
    values, reasons = [], []
    for folder in folders:
        status = read_status(folder)
        if status["state"] != "finished":
            said = str(status["reason"] or "").splitlines()
            reasons.append(": ".join([f"{folder.name} {status['state']}", *said[:1]]))
            continue
        try:
            value = read(folder).values[row.metric]
        except ValueError as error:
            reasons.append(f"{folder.name}: {error}")
            continue
        if value is None:
            reasons.append(f"{folder.name}: {row.metric} is not defined there")
        else:
            values.append(value)
    return Outcome(row, tuple(values), "; ".join(reasons) or None)


def show(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Print the table, and how many rows ended how."""
    if as_json:
        print(json.dumps({"rows": [entry(outcome) for outcome in outcomes]}, indent=2))
        return
    header = ["row", "metric", "reported", "seeds", "ours", "difference", "verdict"]
    print_table(header, [cells(outcome) for outcome in outcomes])
    agree = sum(outcome.verdict == GOOD for outcome in outcomes)
    ran = sum(outcome.ran for outcome in outcomes)
    print(f"{agree} of {ran} rows that ran agree with what was reported; {len(outcomes) - ran} were not run")
    if ran < len(outcomes):
        print("`clx data` says where data sets are looked for and how to get them")
    if not all(outcome.row.checked for outcome in outcomes):
        print("*: the reported number was quoted at second hand, not compared with its source")


def cells(outcome: Outcome) -> list[str]:
    """One line of the table."""
    row, found = outcome.row, estimate(outcome.values)
    ours = "-" if found.mean is None else f"{found.mean:.4f}" + ("" if found.std is None else f" ± {found.std:.4f}")
    difference = "-" if found.mean is None else f"{found.mean - row.reported:+.4f}"
    seeds = f"{found.n} of {len(row.seeds)}"
    return [shown(row), row.metric, reported(row), seeds, ours, difference, outcome.verdict]


def shown(row: Row) -> str:
    """The row by its experiment and what its command sets beside it."""
    return " ".join(row.words).removeprefix("experiment=")


def reported(row: Row) -> str:
    """The reported number with the tolerance."""
    return f"{row.reported:g} ± {row.tolerance:g}{'' if row.checked else ' *'}"


def entry(outcome: Outcome) -> dict[str, Any]:
    """The same for programs; difference: ours minus reported."""
    found = estimate(outcome.values)
    numbers = {"values": list(outcome.values), "mean": found.mean, "std": found.std}
    difference = None if found.mean is None else found.mean - outcome.row.reported
    return facts(outcome.row) | numbers | {"difference": difference, "verdict": outcome.verdict}


def facts(row: Row) -> dict[str, Any]:
    """What the header of its file says about a row."""
    own = dataclasses.asdict(row)
    del own["words"]
    return own | {"command": row.command, "seeds": list(row.seeds)}


def show_list(rows: Sequence[Row], words: Sequence[str], folders: Sequence[str], *, as_json: bool) -> None:
    """Print every row, where it is from and whether its data is there."""
    without = lacking(rows, words, folders)
    if as_json:
        print(json.dumps({"rows": [facts(row) | {"missing_data": without[row]} for row in rows]}, indent=2))
        return
    there = {row: "yes" if without[row] is None else f"no ({without[row]})" for row in rows}
    header = ["group", "row", "data", "source", "metric", "reported"]
    print_table(header, [[row.group, shown(row), there[row], row.source, row.metric, reported(row)] for row in rows])


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """As wide as it needs to be where nobody looks."""
    Console(width=None if sys.stdout.isatty() else 240).print(rich_table(header, rows))
