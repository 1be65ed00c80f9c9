"""What this machine offers to runs side by side; asked without torch, by the process that only launches them."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """NVIDIA devices that this process may use."""
    visible = _visible()
    if visible is not None:
        return len(visible)
    folder = Path("/proc/driver/nvidia/gpus")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def workers() -> int:
    """Runs at once: one for each GPU, or where there is none for each core."""
    return gpus() or cores()


def threads(side_by_side: int) -> int:
    """Threads of each of so many runs side by side, so that they share the cores; OMP_NUM_THREADS where it is set.

    side_by_side: as joblib counts, -1 = one for each core.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit():
        return int(wanted)
    return max(1, cores() // (side_by_side if side_by_side > 0 else cores()))


_claimed: list[FileLock] = []  # for as long as this process lives


def claim_gpu() -> None:
    """Where there are several GPUs, let this process see one alone, which no other run of a sweep has.

    To be called before torch looks for GPUs. Where all are taken, they are shared out by the process's number.
    """
    if _claimed or gpus() < 2:
        return
    names = _visible() or [str(number) for number in range(gpus())]
    folder = Path(tempfile.gettempdir()) / f"clx-gpus-{getpass.getuser()}"
    folder.mkdir(exist_ok=True)
    chosen = names[os.getpid() % len(names)]
    for name in names:
        lock = FileLock(folder / f"{name.replace('/', '_')}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _claimed.append(lock)
        chosen = name
        break
    os.environ["CUDA_VISIBLE_DEVICES"] = chosen


def _visible() -> list[str] | None:
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if text is None else [name for name in map(str.strip, text.split(",")) if name not in ("", "-1")]
