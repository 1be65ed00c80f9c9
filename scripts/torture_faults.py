"""What may happen to a run while it goes on: kills, signals, rivals, disks that are full, folders that go away."""
# ruff: noqa: ARG001 - all have the same arguments

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from torture_damage import DAMAGES
from torture_disk import FULL, NONE
from torture_run import Process, Run, Sight

ROOM = (0, 2_000, 40_000, 200_000)  # bytes left on a full disk
TRACEBACK = "Traceback"  # what a message to people does not hold
GONE = ("moved or deleted", "No such file")
CLOSED = ("Read-only file system", "Permission denied", "cannot be written")

Happening = Callable[[Run, Random], bool]  # whether the run has finished


def hit(run: Run, rng: Random) -> bool:
    """Start it and SIGKILL it at some moment of its life; True where it finished before."""
    process = run.start()
    if run.follow(process, moment(run, process, rng)) or not run.kill(process):
        return run.finished(process)
    return False


def moment(run: Run, process: Process, rng: Random) -> Sight:
    """Half of the time any moment; else one when a file of a kind is written, or a little later."""
    if rng.random() < 0.5:
        return after(process, rng.uniform(0, run.seconds))
    pattern = rng.choice(("checkpoint/.*", "checkpoint/.*", "checkpoint/[0-9]*", "metrics.csv", "*.png", ".*.json.*"))
    pattern = rng.choice(("result.json", ".result.json.*")) if pattern == ".*.json.*" else pattern
    later = 0.0 if pattern.split("/")[-1].startswith(".") else rng.choice((0.0, rng.uniform(0, 0.3)))
    seen: list[float] = []

    def sight() -> bool:
        if not seen and any(_newer(path, process.since) for path in run.folder.glob(pattern)):
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() >= seen[0] + later

    return sight


def after(process: Process, seconds: float) -> Sight:
    """So long after its start."""
    return lambda: time.monotonic() >= process.begun + seconds


def begun(run: Run, process: Process) -> bool:
    """Whether status.json says that this process runs it."""
    status = run.status()
    return (status.get("pid"), status.get("state")) == (process.pid, "running")


def _newer(path: Path, since: float) -> bool:
    try:
        return path.stat().st_mtime >= since
    except OSError:
        return False


def sigterm(run: Run, rng: Random) -> bool:
    """SIGTERM, as a queue sends it: it writes a checkpoint and ends with 130."""
    return _signalled(run, rng, signal.SIGTERM)


def sigint(run: Run, rng: Random) -> bool:
    """SIGINT, Ctrl-C: the same."""
    return _signalled(run, rng, signal.SIGINT)


def _signalled(run: Run, rng: Random, number: signal.Signals) -> bool:
    process = run.start()
    if run.follow(process, moment(run, process, rng)):
        return run.finished(process)
    running = begun(run, process)
    process.send(number)
    run.follow(process)
    code = run.settle(process)
    if code == 0 or run.state() == "finished":
        if run.state() != "finished":
            run.problem(f"exit code 0 at {number.name}, status {run.state()}")
        return run.state() == "finished"
    if running and (code, run.state()) != (130, "interrupted"):
        run.problem(f"{number.name}: exit code {code}, status {run.state()}: {process.said()[-300:]}")
    return False


def rival(run: Run, rng: Random) -> bool:
    """Two processes at the same moment: one runs, the other says which and exits with 2. Then, half of the time, the
    one that runs is killed; the next start takes over."""
    both = [run.start(), run.start()]
    run.follow(both[0], lambda: both[1].ended)
    loser, holder = sorted(both, key=lambda process: not process.ended)
    if holder.ended or loser.finish() == 0:  # the first was so quick that the second came afterwards
        run.follow(holder)
        return _one_after_the_other(run, both)
    if loser.finish() != 2 or f"process {holder.pid}" not in loser.said():
        run.problem(f"the rival of {holder.pid}: exit code {loser.finish()}: {loser.said()[-300:]}")
    if rng.random() < 0.5 and not run.follow(holder, moment(run, holder, rng)) and run.kill(holder):
        return False
    run.follow(holder)
    return run.finished(holder)


def _one_after_the_other(run: Run, both: list[Process]) -> bool:
    codes = sorted(process.finish() for process in both)
    said = [process.said() for process in both]
    # Both where an earlier process had finished it.
    if codes not in ([0, 0], [0, 2]) or (codes == [0, 0] and not any("already finished" in text for text in said)):
        run.problem(f"two rivals: exit codes {codes}: {said}"[:600])
    return run.finished(min(both, key=lambda process: process.finish()))


def full_disk(run: Run, rng: Random) -> bool:
    """From some moment on nothing can be written: it ends with 1 and says why, and no checkpoint is lost."""
    moments = (0.0, rng.uniform(0, run.seconds), rng.uniform(0, run.seconds))
    process, at = run.start(), rng.choice(moments)
    try:
        if not run.follow(process, after(process, at)):
            run.disk.fill(rng.choice(ROOM), process.pid)
            run.follow(process)
    finally:
        run.disk.clear()
    return _failed(run, process, FULL)


def read_only(run: Run, rng: Random) -> bool:
    """The folder can only be read: it ends with 1, or 2 where that is seen before the run, and says why."""
    run.disk.close(run.root)
    try:
        process = run.start()
        run.follow(process)
    finally:
        run.disk.open()
    return _failed(run, process, CLOSED, codes=(1, 2))


def vanished_folder(run: Run, rng: Random) -> bool:
    """The folder of all runs is moved away while it runs, and back a little later."""
    process = run.start()
    sight = moment(run, process, rng)
    if run.follow(process, lambda: begun(run, process) and sight()):
        return run.finished(process)
    away, copy = run.root.with_name("away"), run.root.with_name("copy")
    run.root.rename(away)
    try:
        run.follow(process, after(process, time.monotonic() - process.begun + rng.uniform(0.05, 1.0)))
    finally:
        if run.root.exists():
            run.root.rename(copy)
        away.rename(run.root)
        shutil.rmtree(copy, ignore_errors=True)
    run.follow(process)
    return _failed(run, process, GONE)


def _failed(run: Run, process: Process, why: tuple[str, ...], codes: tuple[int, ...] = (1,)) -> bool:
    """It should have ended with such a code and reason, or finished all the same; whether it has finished."""
    code, said = run.settle(process), process.said()
    if code == 0 and run.state() == "finished":
        return True
    if code not in codes or TRACEBACK in said or not any(reason in said for reason in why):
        run.problem(f"exit code {code}, status {run.state()}: {said[-600:]}")
    return False


def missing_result(run: Run, rng: Random) -> bool:
    """The run is finished, but somebody deletes its result.json: the next start writes it again."""
    process = run.start()
    run.follow(process)
    if not run.finished(process):
        return False
    (run.folder / "result.json").unlink()
    process = run.start()
    run.follow(process)
    return run.finished(process)


HAPPENINGS: dict[str, Happening] = {
    happening.__name__: happening
    for happening in (sigterm, sigint, rival, full_disk, read_only, vanished_folder, missing_result)
}


# Where there is a condition.
POSSIBLE: dict[str, Callable[[Run], bool]] = {
    "full_disk": lambda run: run.disk.kind != NONE,
    "read_only": lambda run: run.disk.closes and run.folder.exists(),
}


class Deck:
    """All faults in random order, again and again, so that each gets its turn. names: None = all of them; a kill
    without any comes as often as all others together."""

    def __init__(self, rng: random.Random, names: list[str] | None) -> None:
        self.rng = rng
        self.names = names or [*DAMAGES, *HAPPENINGS]
        self.cards: list[str] = []

    def draw(self) -> str:
        """The next one's name."""
        if not self.cards:
            self.cards = self.names + ["nothing"] * len(self.names)
            self.rng.shuffle(self.cards)
        return self.cards.pop()

    def put_back(self, name: str) -> None:
        """It could not be played; it comes again, last."""
        self.cards.insert(0, name)
