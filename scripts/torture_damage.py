"""What may have happened to the files of a run that was killed, until it is started again.

Each function does it and returns whether there was something to do it to.
"""
# ruff: noqa: ARG001 - all have the same arguments

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random

from torture_run import Run

Damage = Callable[[Run, Random], bool]


def nothing(run: Run, rng: Random) -> bool:
    """A kill alone."""
    return True


def cut_checkpoint(run: Run, rng: Random) -> bool:
    """The newest checkpoint is cut short."""
    return _newest(run, lambda path: os.truncate(path, rng.randrange(1, path.stat().st_size)))


def flip_byte(run: Run, rng: Random) -> bool:
    """A bit in the newest checkpoint is another one."""

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)

    return _newest(run, flip)


def empty_checkpoint(run: Run, rng: Random) -> bool:
    """The newest checkpoint is an empty file, as after a power failure."""
    return _newest(run, lambda path: os.truncate(path, 0))


def delete_checkpoint(run: Run, rng: Random) -> bool:
    """The newest checkpoint is gone."""
    return _newest(run, Path.unlink)


def stray_files(run: Run, rng: Random) -> bool:
    """Temporary files of somebody who was killed while writing, beside those that they were to become."""

    def leave(path: Path) -> None:
        content = path.read_bytes()
        path.with_name(f".{path.name}.stray").write_bytes(content[: rng.randrange(len(content))])
        (run.folder / ".result.json.stray").write_text('{"schema": 1, "metr')

    return _newest(run, leave)


def _newest(run: Run, change: Callable[[Path], None]) -> bool:
    newest = run.checkpoints()[-1:]
    for path in newest:
        if path.stat().st_size:
            change(path)
    return bool(newest)


def cut_status(run: Run, rng: Random) -> bool:
    """status.json ends in the middle."""
    return _status(run, lambda text: text[: rng.randrange(1, len(text) - 2)])


def empty_status(run: Run, rng: Random) -> bool:
    """status.json is empty."""
    return _status(run, lambda _: "")


def delete_status(run: Run, rng: Random) -> bool:
    """status.json is gone."""
    found = (run.folder / "status.json").exists()
    (run.folder / "status.json").unlink(missing_ok=True)
    return found


def reused_pid(run: Run, rng: Random) -> bool:
    """The number of the process that was killed is somebody else's by now: ours."""
    return _status(run, lambda text: json.dumps(json.loads(text) | {"state": "running", "pid": os.getpid()}))


def other_host(run: Run, rng: Random) -> bool:
    """The process that was killed ran on another machine, which shared this file system."""
    stranger = {"state": "running", "host": f"not-{socket.gethostname()}"}
    return _status(run, lambda text: json.dumps(json.loads(text) | stranger))


def _status(run: Run, change: Callable[[str], str]) -> bool:
    path = run.folder / "status.json"
    if not run.status():
        return False
    path.write_text(change(path.read_text()))
    run.mine("status.json")
    return True


def torn_metrics(run: Run, rng: Random) -> bool:
    """metrics.csv and matrix.csv end in half a line of nonsense."""
    for name in ("metrics.csv", "matrix.csv"):
        path = run.folder / name
        if path.exists():
            with path.open("ab") as file:
                file.write(rng.randbytes(rng.randrange(1, 200)))
    return (run.folder / "metrics.csv").exists()


DAMAGES: dict[str, Damage] = {
    function.__name__: function
    for function in (
        nothing,
        cut_checkpoint,
        flip_byte,
        empty_checkpoint,
        delete_checkpoint,
        stray_files,
        cut_status,
        empty_status,
        delete_status,
        reused_pid,
        other_host,
        torn_metrics,
    )
}


def damage(run: Run, name: str, rng: Random) -> bool:
    """Do one of them; False where there is nothing to do it to. A run that has finished is left as it is: nothing
    writes its files again."""
    return run.state() != "finished" and DAMAGES[name](run, rng)
