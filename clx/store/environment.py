"""What a run ran on: enough to say why two runs differ."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any


def versions() -> dict[str, str]:
    """Versions of Python, clx and every package that clx requires, extras included where installed."""
    found = {"python": platform.python_version()}
    try:
        requirements = metadata.requires("clx") or []
    except metadata.PackageNotFoundError:  # run from a checkout that nobody installed
        requirements = []
    names = [match.group() for text in requirements if (match := re.match(r"[A-Za-z0-9._-]+", text))]
    for name in ["clx", *names]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the checkout that clx runs from, with + where files have changed since; None elsewhere."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        head, changes = _git(checkout, "rev-parse", "HEAD"), _git(checkout, "status", "--porcelain", "-uno")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changes else "")


def _git(checkout: Path, *words: str) -> str:
    command = ["git", "-C", str(checkout), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603 - fixed words
    return done.stdout.strip()


def environment(**facts: Any) -> dict[str, Any]:
    """environment.json: versions, commit, machine, and the facts of this run (device, threads, seeds, stream)."""
    return {
        "versions": versions(),
        "commit": commit(),
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        **facts,
    }
