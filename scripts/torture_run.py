"""One run that is started, killed and looked at until it finishes: its processes, and what its folder shows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torture_disk import SmallDisk

from clx.store import checkpoint
from clx.store.files import read_json, read_yaml

# Strategies and their epochs, a second or two of training each; every one keeps another kind of state.
EPOCHS = {
    "finetune": 40,
    "er": 30,
    "agem": 10,
    "icarl": 20,
    "lucir": 12,
    "lwf": 30,
    "ewc_online": 35,
    "si": 30,
    "ft_exemplars": 30,
    "expert_gate": 5,
}
WORDS = ["trainer.num_threads=1", "trainer.device=cpu", "trainer.checkpoint_every=0.2s", "logger=none"]
EVALUATE = 5  # epochs
PATIENCE = 120.0  # s; a process that takes longer hangs
GLANCE = 0.0005  # s between two looks at the files of a running process
STOP = threading.Event()  # somebody wants us to end
STARTING = threading.Lock()  # nothing is started once STOP is set
LIVING: set[subprocess.Popen[bytes]] = set()
VISIBLE: dict[str, Callable[[Path], Any]] = {
    "status.json": lambda path: read_json(path)["state"],
    "result.json": lambda path: read_json(path)["metrics"]["average_accuracy"],
    "config.yaml": lambda path: read_yaml(path)["choices"],
}

Sight = Callable[[], bool]


class Problem(Exception):
    """What clx should not have done."""


class Stopped(Exception):
    """The person wants the whole to end."""


def words(strategy: str) -> list[str]:
    """The command of a strategy, its folder apart."""
    epochs = EPOCHS.get(strategy, 20)
    return [f"strategy={strategy}", f"trainer.epochs={epochs}", f"trainer.eval_every={EVALUATE}", *WORDS]


class Process:
    """One `clx ...` in a session of its own; what it says goes into a file beside the runs."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.output = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - goes with the process
        self.begun, self.since = time.monotonic(), time.time()
        with STARTING:
            if STOP.is_set():
                raise Stopped
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "clx", *command],
                cwd=folder,
                env=os.environ | {"OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0"},
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we end it
            )
            LIVING.add(self.popen)
        self.pid = self.popen.pid

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self.popen.poll() is not None

    def send(self, number: signal.Signals) -> None:
        """A signal to the process alone."""
        self.popen.send_signal(number)

    def finish(self) -> int:
        """Wait until it is gone; its exit code, or minus the signal's number."""
        code = self.popen.wait(PATIENCE)
        LIVING.discard(self.popen)
        return code

    def said(self) -> str:
        """Both its outputs so far."""
        self.output.seek(0)
        return self.output.read().decode(errors="replace").strip()


def kill_all() -> None:
    """End every process that is still there."""
    with STARTING:
        STOP.set()
    for popen in list(LIVING):
        popen.kill()
    for popen in list(LIVING):
        popen.wait()


class Run:
    """A run below `root`, at `place` in it, and the counts of what happened to it.

    name: for the reports. seconds: that an untouched one lives. disk: what root lies on. aside: where the outputs of
    its processes go.
    """

    def __init__(
        self, name: str, command: list[str], place: Path, *, seconds: float, disk: SmallDisk, aside: Path
    ) -> None:
        self.name, self.seconds, self.disk, self.aside = name, seconds, disk, aside
        self.root = disk.place / name
        self.folder = self.root / place
        self.command = [*command, f"output_root={self.root}"]
        self.counts: Counter[str] = Counter()
        self.moments: Counter[str] = Counter()
        self.faults: dict[str, Counter[str]] = {}  # fault -> times, and how the starts after it went
        self.problems: list[str] = []
        self.last_fault = ""
        self.pending: list[str] = []  # faults since a start got as far as to training
        self.rerun = self._reruns = self._began = False
        self._log, self._steps = "", -1
        self._shown: dict[str, tuple[int, ...]] = {}
        self._mine: set[tuple[str, tuple[int, ...]]] = set()

    def start(self) -> Process:
        """Start its command, again."""
        self._log, self._steps = self._read("run.log"), self.steps()
        self._reruns, self.rerun = self.rerun, False
        return Process([*self.command, *(["rerun=true"] if self._reruns else [])], self.aside)

    def follow(self, process: Process, until: Sight = lambda: False) -> bool:
        """Look at the files again and again until the process has ended (True) or until() says so (False)."""
        deadline = time.monotonic() + PATIENCE
        while not process.ended:
            if STOP.is_set():
                raise Stopped
            self.look()
            if until():
                return False
            if time.monotonic() > deadline:
                process.send(signal.SIGKILL)
                process.finish()
                raise Problem(f"it hangs: no end after {PATIENCE:.0f} s; {process.said()[-200:]}")
            time.sleep(GLANCE)
        self.look()
        return True

    def settle(self, process: Process) -> int:
        """After its end: note how it had started, and whether anything was lost; its exit code."""
        code, log = process.finish(), self._read("run.log")
        resumed = bool(self._log) and log.startswith(self._log)
        if "started at experience" in log[len(self._log) if resumed else 0 :] and log != self._log:
            self._through("resumed" if resumed else "anew" if self._began else "first")
            self._began = True
            if not resumed and self._steps >= 0 and not self._reruns:
                self.problem(f"it began anew although there was a checkpoint of {self._steps} steps")
        if self.steps() < self._steps and not self._reruns:
            self.problem(f"its checkpoint has gone back from {self._steps} to {self.steps()} steps")
        return code

    def finished(self, process: Process) -> bool:
        """Whether it has finished, after a start that nothing disturbed; where it asks for rerun=true since every
        checkpoint is damaged, the next start does so. Raises Problem where it fails again and again."""
        code, said = self.settle(process), process.said()
        if code == 0 and self.state() == "finished":
            return True
        if code == 1 and "rerun=true" in said and self.steps() < 0 and self.checkpoints():
            self._through("told to")
            self.rerun = True
            return False
        self.problem(f"exit code {code}, status {self.state()}: {said[-300:]}")
        self.counts["failed starts"] += 1
        if self.counts["failed starts"] > 3:
            raise Problem("it does not get to its end")
        return False

    def kill(self, process: Process) -> bool:
        """SIGKILL, now; False where it had ended by itself."""
        process.send(signal.SIGKILL)
        if process.finish() != -signal.SIGKILL:
            return False
        self.look()
        self.counts["kills"] += 1
        self.moments[self.moment(process)] += 1
        self.settle(process)
        return True

    def fault(self, name: str) -> None:
        """Problems from now on are told of this fault."""
        self.last_fault = name
        self.faults.setdefault(name, Counter())["times"] += 1

    def _through(self, how: str) -> None:
        """A start got through the faults before it."""
        self.counts[how] += 1
        for name in self.pending:
            self.faults[name][how] += 1
        self.pending = []

    def problem(self, text: str) -> None:
        """Note what was wrong."""
        after = f" after {self.last_fault}" if self.last_fault else ""
        self.problems.append(f"{self.name}{after}: {text}")
        if self.last_fault:
            self.faults[self.last_fault]["problems"] += 1

    def look(self) -> None:
        """Whoever looks at these files, at any moment, must see whole ones."""
        for name, check in VISIBLE.items():
            path = self.folder / name
            try:
                stamp = _stamp(path)
                if self._shown.get(name) == stamp or (name, stamp) in self._mine:
                    continue
                self._shown[name] = stamp
                self.counts["looks"] += 1
                check(path)
            except OSError:  # not there, or no longer
                continue
            except (ValueError, KeyError, TypeError) as error:
                self.problem(f"half a {name} was to be seen: {error}")

    def mine(self, *names: str) -> None:
        """Those files are as we damaged them; clx did not write them."""
        self._mine.update((name, _stamp(self.folder / name)) for name in names if (self.folder / name).exists())

    def moment(self, process: Process) -> str:
        """What a killed process was at, by what it left."""
        log = self._read("run.log")
        if log == self._log:
            return "loading" if self.status().get("pid") == process.pid else "before anything"
        if any(file.stat().st_mtime >= process.since for file in self.folder.glob("checkpoint/.*")):
            return "in a checkpoint"
        if (self.folder / "result.json").exists():
            return "after result.json"
        if (self.folder / "accuracy.png").exists():
            return "pictures, result"
        return "training" if self.checkpoints() else "no checkpoint yet"

    def checkpoints(self) -> list[Path]:
        """Its files, the newest last."""
        return sorted((self.folder / "checkpoint").glob("[0-9]*.pt"))

    def steps(self) -> int:
        """Trained when its last whole checkpoint was written; -1 = there is none."""
        try:
            state = checkpoint.load(self.folder, lambda _: None)
        except (ValueError, OSError):
            state = None
        return -1 if state is None else int(state["counters"]["total_step"])

    def status(self) -> dict[str, Any]:
        """status.json as it stands there; empty where it cannot be read."""
        try:
            return dict(read_json(self.folder / "status.json"))
        except (OSError, ValueError, TypeError):
            return {}

    def state(self) -> str:
        """What status.json says."""
        return str(self.status().get("state"))

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text()
        except OSError:
            return ""


def _stamp(path: Path) -> tuple[int, ...]:
    seen = path.stat()
    return seen.st_ino, seen.st_mtime_ns, seen.st_size
