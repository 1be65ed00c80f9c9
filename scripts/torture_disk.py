"""A small file system that can be full, or read-only; where mounting is not allowed, stand-ins."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from pathlib import Path
from types import TracebackType

SIZE = 96 * 2**20  # bytes
SPEECH = 8192  # bytes; the stand-in limits the file too that takes what a process says
TMPFS, LIMIT, NONE = "tmpfs", "RLIMIT_FSIZE", "none"
FULL = ("No space left", "File too large")  # what the two say


class SmallDisk:
    """A folder on a tmpfs of its own, as long as the context lasts.

    mount: False = do not try. `kind`: what stands for a full disk: tmpfs; RLIMIT_FSIZE, the largest file that a process
    may write; or none, where the system offers neither.
    """

    def __init__(self, place: Path, *, mount: bool) -> None:
        self.place, self.mounted = place, False
        place.mkdir(parents=True)
        if mount:
            self.mounted = _quietly("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(place))
        self.kind = TMPFS if self.mounted else LIMIT if hasattr(resource, "prlimit") else NONE
        self._filler = place / "filler"
        self._closed: list[Path] = []

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.mounted:
            _quietly("umount", str(self.place))

    def fill(self, free: int, pid: int) -> None:
        """Leave so many bytes. pid: whose files the stand-in limits to that size."""
        if self.mounted:
            self._fill(free)
        elif self.kind == LIMIT:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (max(free, SPEECH),) * 2)

    def _fill(self, free: int) -> None:
        with self._filler.open("wb") as file:
            for _ in range(100):
                room = os.statvfs(self.place)
                with contextlib.suppress(OSError):  # the run has taken some of it meanwhile
                    return os.posix_fallocate(file.fileno(), 0, max(room.f_bavail * room.f_frsize - free, 1))
        return None

    def clear(self) -> None:
        """Make room again."""
        self._filler.unlink(missing_ok=True)

    @property
    def closes(self) -> bool:
        """Whether it can be made read-only: to root modes mean nothing."""
        return self.mounted or os.geteuid() != 0

    def close(self, folder: Path) -> None:
        """Let nobody write into the folder any more, nor below it."""
        if self.mounted:
            _quietly("mount", "-o", "remount,ro", str(self.place))
            return
        self._closed = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
        for path in self._closed:
            path.chmod(0o555)

    def open(self) -> None:
        """Take close() back."""
        if self.mounted:
            _quietly("mount", "-o", f"remount,rw,size={SIZE}", str(self.place))
        for path in self._closed:
            path.chmod(0o755)
        self._closed = []


def _quietly(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
