"""One run, one folder: what is written there while it goes on."""

from __future__ import annotations

import csv
import logging
import os
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from clx.logger.base import Evaluated, Event, ExperienceDone, RunFinished, RunStarted, StepDone
from clx.store.files import read_json, write_json, write_yaml

LOCK = ".lock"
GROWING = ("metrics.csv", "matrix.csv")
HEADER = ["step", "experience", "phase", "epoch", "name", "value"]
log = logging.getLogger("clx")
log.addHandler(logging.NullHandler())  # where there is no run.log, logging itself would write to standard error


def now() -> str:
    """The time in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunStore:
    """Writes the files of one run; a Logger too, which appends what happens to metrics.csv and run.log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started = now()
        self._handler: logging.Handler | None = None
        self._metrics: Any = None
        self._rows: Any = None
        self._lock: Any = None
        self._place: os.stat_result | None = None
        self.telling = True  # whether run.log takes what is logged: not what another run of this process says

    def claim(self) -> None:
        """Hold the folder until close(), or the end of the process however it comes.

        Raises BlockingIOError where another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._place = self.folder.stat()
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=1)  # s: somebody may be looking whether it is held
        except Timeout as error:
            raise BlockingIOError(f"{self.folder} is held by another process") from error
        except (OSError, NotImplementedError):  # a file system without locks: status.json alone says who runs
            if read_status(self.folder)["state"] == "running":
                raise BlockingIOError(f"{self.folder} is held by another process") from None
            return
        self._lock = lock

    def check_place(self) -> None:
        """Raise FileNotFoundError where the folder is no longer the one that was claimed: moved away, or deleted."""
        try:
            if self._place is None or os.path.samestat(self._place, self.folder.stat()):
                return
        except FileNotFoundError:
            pass
        raise FileNotFoundError(f"{self.folder} was moved or deleted while its run went on; put it back and resume")

    def begin(
        self, config: dict[str, Any], environment: dict[str, Any], written: Mapping[str, int] | None = None
    ) -> None:
        """Open the folder. written: of the checkpoint that the run goes on from; None = from the start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, size in (written or {}).items():
            if (self.folder / name).exists() and (self.folder / name).stat().st_size > size:
                os.truncate(self.folder / name, size)  # what comes after it will be told again
        for half in (*self.folder.glob(".*.*"), *self.folder.glob("checkpoint/.*.*")):
            half.unlink(missing_ok=True)  # what a process that was killed was writing
        if written is None:
            for name in ("metrics.csv", "matrix.csv", "result.json", "run.log", "accuracy.png", "matrix.png"):
                (self.folder / name).unlink(missing_ok=True)
        write_yaml(self.folder / "config.yaml", config)
        write_json(self.folder / "environment.json", environment)
        self._metrics = (self.folder / "metrics.csv").open("a", newline="")
        self._rows = csv.writer(self._metrics)
        if not self._metrics.tell():
            self._rows.writerow(HEADER)
        self._handler = logging.FileHandler(self.folder / "run.log")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._handler.addFilter(lambda _: self.telling)
        log.addHandler(self._handler)
        log.setLevel(logging.INFO)
        self.status("running")

    def status(self, state: str, reason: str | None = None) -> None:
        """Say how the run is: running, finished, failed, interrupted or skipped, and why."""
        self.check_place()
        content = {
            "state": state,
            "reason": reason,
            "started": self.started,
            "ended": None if state == "running" else now(),
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }
        write_json(self.folder / "status.json", content)

    def finish(self, result: dict[str, Any]) -> None:
        """The run is over: its result, then its state."""
        self.check_place()
        write_json(self.folder / "result.json", result)
        self.status("finished")

    def matrix_row(self, after: int, values: Iterable[float | None]) -> None:
        """Append the accuracies after that many experiences to matrix.csv."""
        self.check_place()
        path = self.folder / "matrix.csv"
        cells = ["" if value is None else repr(value) for value in values]
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if not file.tell():
                writer.writerow(["after", *range(len(cells))])
            writer.writerow([after, *cells])

    def on(self, event: Event) -> None:
        if isinstance(event, StepDone):
            values = {f"loss/{name}": value for name, value in event.terms.items()}
            if event.accuracy is not None:
                values["train_accuracy"] = event.accuracy
            self._append(event.total_step, event.experience, event.phase, event.epoch, values)
        elif isinstance(event, Evaluated):
            self._evaluated(event)
        elif isinstance(event, RunStarted):
            log.info("%s: started at experience %d of %d", event.title, event.first + 1, event.num_experiences)
        elif isinstance(event, ExperienceDone):
            log.info("experience %d done, trained in %.2f s", event.experience + 1, event.seconds)
        else:
            assert isinstance(event, RunFinished)
            log.info("finished in %.2f s: %s", event.seconds, event.metrics)

    def close(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if self._handler is not None:
            log.removeHandler(self._handler)
            self._handler.close()
            self._handler = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _evaluated(self, event: Evaluated) -> None:
        values = {f"accuracy/{j}": v for j, v in enumerate(event.accuracies) if v is not None}
        values |= {f"task_aware_accuracy/{j}": v for j, v in enumerate(event.aware) if v is not None}
        # Before training, in the middle of an experience, or after one: each line names the experience it is about.
        inside = event.epoch is not None or event.experiences == 0
        experience = event.experiences if inside else event.experiences - 1
        self._append(event.total_step, experience, "eval", "" if event.epoch is None else event.epoch, values)
        if event.epoch is None:
            self.matrix_row(event.experiences, event.accuracies)

    def _append(self, step: int, experience: int, phase: str, epoch: int | str, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._rows.writerow([step, experience, phase, epoch, name, repr(float(value))])
        self._metrics.flush()

    def written(self) -> dict[str, int]:
        """Bytes of the files that grow as the run goes; what comes after them is not in the checkpoint."""
        self._metrics.flush()
        os.fsync(self._metrics.fileno())  # a checkpoint that is on the disk counts on it
        paths = {name: self.folder / name for name in GROWING}
        return {name: path.stat().st_size if path.exists() else 0 for name, path in paths.items()}


def read_status(folder: Path) -> dict[str, Any]:
    """status.json of a run; the state is "missing" where there is none, "failed" where its process has died."""
    try:
        status = read_json(folder / "status.json")
    except (OSError, ValueError):
        return {"state": "missing", "reason": None}
    if not isinstance(status, dict) or "state" not in status:
        return {"state": "missing", "reason": None}
    if status["state"] == "running" and not _alive(folder, status):
        return status | {"state": "interrupted", "reason": "its process ended without a word"}
    return status


def _alive(folder: Path, status: dict[str, Any]) -> bool:
    """Whether the process that wrote the status still lives.

    A number that another process has got since does not count: whoever runs holds the folder's lock.
    """
    here = status.get("host") == socket.gethostname()
    try:
        if here:
            os.kill(int(status["pid"]), 0)
            if not (folder / LOCK).exists():
                return True
        FileLock(folder / LOCK).acquire(timeout=0).lock.release()
    except (Timeout, NotImplementedError):
        return True
    except PermissionError:  # the process, or the folder, is somebody else's
        return True
    except (OSError, KeyError, TypeError, ValueError):
        return not here
    return False


def exit_code(folders: Iterable[Path], code: int = 0) -> int:
    """The exit code of runs by what their folders say; code: where they say nothing bad."""
    states = {read_status(folder)["state"] for folder in folders}
    if "interrupted" in states:
        return 130
    return code if states <= {"finished", "skipped"} else 1
