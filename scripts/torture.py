"""Does a run survive what happens to runs? Kills real ones, damages what they leave, starts them again, and compares.

For each strategy one run on split_digits is left alone. Then the same command is started again and again: killed with
SIGKILL at random moments (of importing, training, evaluating, writing a checkpoint, drawing), its checkpoints and files
cut, emptied, flipped and deleted, its disk filled, its folder taken away, rivals set on it, until it has finished; and
so on with a fresh folder, until all kills are used up. Each finished run must have the bits of the one that was left
alone: result.json, metrics.csv, matrix.csv and every tensor of the last checkpoint. Whoever reads result.json,
status.json or config.yaml meanwhile must see whole files. The exit code is 0 if all of that holds. Leave the files of
clx as they are while it runs: every start reads them anew.

As root the runs lie on a small tmpfs, so that its disk can be full; elsewhere a limit on the size of files stands in.

    python scripts/torture.py [--kills 200] [--strategies er,icarl] [--faults full_disk,rival] [--seed 0] [--jobs 2]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torture_damage import DAMAGES, damage
from torture_disk import SmallDisk
from torture_faults import HAPPENINGS, POSSIBLE, Deck, hit
from torture_outcome import SHOWN, differences, outcome
from torture_run import EPOCHS, Problem, Process, Run, Stopped, kill_all, words
from torture_tables import print_tables

Tell = Callable[[int], None]  # of more kills


@dataclass
class Report:
    """What happened to the runs of one strategy."""

    strategy: str
    disk: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    faults: dict[str, Counter[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of the run that was left alone

    def add(self, run: Run, end: str) -> None:
        """A run that has come to its end."""
        self.counts.update(run.counts)
        self.counts.update(runs=1, **{end: 1})
        self.moments.update(run.moments)
        for name, counts in run.faults.items():
            self.faults.setdefault(name, Counter()).update(counts)
            self.faults[name][end] += 1
        self.problems += run.problems


class Torment:
    """All runs of one strategy, one after the other, on a disk of their own."""

    def __init__(self, strategy: str, kills: int, rng: Random, deck: Deck, folder: Path, tell: Tell) -> None:
        self.report = Report(strategy)
        self.left, self.rng, self.deck, self.folder, self.tell = kills, rng, deck, folder, tell
        self.command = words(strategy)

    def __call__(self, *, mount: bool) -> Report:
        """Go on until all kills are used up. Raises Problem where the command fails by itself."""
        strategy = self.report.strategy
        with SmallDisk(self.folder / strategy, mount=mount) as disk:
            self.report.disk = disk.kind
            expected, place, seconds = self._untouched(disk)
            self.report.seconds = seconds
            while self.left > 0:
                name = f"{strategy}-{self.report.counts['runs']}"
                run = Run(name, self.command, place, seconds=seconds, disk=disk, aside=self.folder)
                end = self._end(run, expected)
                if end != "identical" or run.problems:
                    shutil.copytree(run.root, self.folder / "kept" / name)
                self.report.add(run, end)
                shutil.rmtree(run.root)
        return self.report

    def _untouched(self, disk: SmallDisk) -> tuple[dict[str, Any], Path, float]:
        """The outcome of the run that is left alone, where it lies below its output_root, and the seconds it took."""
        root = disk.place / "untouched"
        process = Process([*self.command, f"output_root={root}"], self.folder)
        if process.finish() != 0:
            raise Problem(f"{self.report.strategy} fails even if nothing happens to it: {process.said()[-600:]}")
        seconds = time.monotonic() - process.begun
        (result,) = root.rglob("result.json")
        expected = outcome(result.parent)
        shutil.rmtree(root)
        return expected, result.parent.relative_to(root), seconds

    def _end(self, run: Run, expected: dict[str, Any]) -> str:
        try:
            while not self._round(run):
                pass
            found = differences(expected, outcome(run.folder))
        except (Problem, OSError, ValueError) as error:
            run.problem(f"lost: {type(error).__name__}: {error}")
            return "lost"
        for line in found[:SHOWN]:
            run.problem(f"different: {line}")
        return "different" if found else "identical"

    def _round(self, run: Run) -> bool:
        """One start, and what befalls it; whether the run has finished."""
        before = run.counts["kills"]
        if self.left <= 0:
            process = run.start()
            run.follow(process)
            return run.finished(process)
        name = self.deck.draw()
        finished, done = (self._happens if name in HAPPENINGS else self._damaged)(run, name)
        if done:
            run.pending.append(name)
        else:
            self.deck.put_back(name)
        killed = run.counts["kills"] - before
        self.left -= killed
        self.tell(killed)
        return finished

    def _happens(self, run: Run, name: str) -> tuple[bool, bool]:
        """Whether the run has finished, and whether there was the fault."""
        if not POSSIBLE.get(name, lambda _: True)(run):
            return False, False
        run.fault(name)
        return HAPPENINGS[name](run, self.rng), True

    def _damaged(self, run: Run, name: str) -> tuple[bool, bool]:
        """The same, of a kill with damage after it."""
        finished = hit(run, self.rng)
        done = not finished and damage(run, name, self.rng)
        if done:
            run.fault(name)
        return finished, done


def shares(kills: int, strategies: Sequence[str]) -> dict[str, int]:
    """Kills of each strategy: as even as can be."""
    each, more = divmod(kills, len(strategies))
    return {name: each + (number < more) for number, name in enumerate(strategies) if each or number < more}


@contextlib.contextmanager
def progress(kills: int) -> Iterator[Tell]:
    """A bar of all kills."""
    columns = (TextColumn("killing"), BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("", total=kills)
        yield lambda killed: bar.advance(task, killed)


def torture(args: argparse.Namespace, folder: Path) -> list[Report]:
    """Everything, so many strategies at a time. KeyboardInterrupt leaves no process behind, nor a mount."""
    with progress(args.kills) as tell, ThreadPoolExecutor(args.jobs) as pool:
        try:
            futures = []
            for strategy, kills in shares(args.kills, args.strategies).items():
                rng = Random(f"{args.seed}/{strategy}")
                torment = Torment(strategy, kills, rng, Deck(rng, args.faults), folder, tell)
                futures.append(pool.submit(torment, mount=args.mount))
            for future in as_completed(futures):
                future.result()
        except BaseException:
            kill_all()
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]


def arguments() -> argparse.Namespace:
    """What was typed."""

    def names(allowed: Sequence[str] | None) -> Callable[[str], list[str]]:
        def split(text: str) -> list[str]:
            unknown = [name for name in text.split(",") if allowed is not None and name not in allowed]
            if unknown:
                raise argparse.ArgumentTypeError(f"{unknown[0]}: there are {', '.join(allowed or ())}")
            return text.split(",")

        return split

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="in all, shared among the strategies")
    parser.add_argument("--strategies", type=names(None), default=list(EPOCHS), help=f"default: {','.join(EPOCHS)}")
    parser.add_argument("--faults", type=names([*DAMAGES, *HAPPENINGS]), help="only these, after a kill or instead")
    parser.add_argument("--seed", type=int, default=0, help="of moments and faults")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--folder", type=Path, help="where the runs lie; default: a temporary one")
    parser.add_argument("--no-mount", dest="mount", action="store_false", help="a limit instead of a small tmpfs")
    parser.add_argument("--json", type=Path, help="write the counts into this file")
    return parser.parse_args()


def main() -> int:
    """Print a table by strategy, one by fault, one by moment, and each problem."""
    args = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if args.folder is not None:
        Path(args.folder).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="clx-torture-", dir=args.folder)).resolve()
    begun = time.monotonic()
    try:
        reports = torture(args, folder)
    except (KeyboardInterrupt, Stopped):
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    except Problem as problem:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"torture: {problem}", file=sys.stderr)
        return 2
    seconds = time.monotonic() - begun
    print_tables(reports, seconds)
    if args.json:
        summary = {"seed": args.seed, "seconds": seconds, "strategies": [vars(report) for report in reports]}
        args.json.write_text(json.dumps(summary, indent=1) + "\n")
    good = all(report.counts["identical"] == report.counts["runs"] and not report.problems for report in reports)
    if good:
        shutil.rmtree(folder)
    else:
        print(f"what went wrong lies in {folder / 'kept'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
