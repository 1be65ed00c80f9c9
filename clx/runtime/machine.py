"""What this machine offers to runs side by side; asked without torch, by the process that only launches them."""

from __future__ import annotations

import os
from pathlib import Path


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """NVIDIA devices that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
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
