"""How long `clx` takes to begin, beside what it cannot do without: `import torch` or `import hydra`."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from speed_measure import Found, band, judge, show, spread
from speed_training import root

FIRST_STEP = 1.3  # times `import torch`
SHORT_COMMAND = 1.0  # s beyond `import hydra`
COMMANDS = {
    "startup_help": ["--help"],
    "startup_list": ["list"],
    "startup_wrong_option": ["strategy=no_such"],
    "startup_wrong_key": ["no_such=1"],
}
# `clx`, ended where the first training step begins.
UNTIL_FIRST_STEP = textwrap.dedent("""
    import importlib.abc, importlib.machinery, os, sys

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name != "clx.loop.step":
                return None
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                module.Step.__call__ = lambda *_: os._exit(77)

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Finder())
    sys.argv = ["clx"]
    from clx.cli import main
    sys.exit(main())
""")


def run(words: Sequence[str], folder: Path, expected: Sequence[int] = (0,)) -> tuple[float, float]:
    """Seconds of a Python process on the clock, and of its CPU time. Raises RuntimeError where it ends otherwise."""
    environment = os.environ | {"CLX_DATA_ROOT": str(root())}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in expected:
        raise RuntimeError(f"{' '.join(words)[:60]} ended with {done.returncode}: {done.stderr[-500:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def in_turn(
    bare: Sequence[str], ours: Sequence[str], pairs: int, expected: Sequence[int]
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """(wall, CPU) seconds of both, one after the other, in a folder that is new for each."""
    found = []
    for pair in range(pairs + 1):  # the first warms the file system's cache
        with tempfile.TemporaryDirectory() as folder:
            one = run(bare, Path(folder))
            two = run(ours, Path(folder), expected)
        found += [(one, two)] if pair else []
    return found


def first_step(pairs: int) -> Found:
    """Bare `clx` until its first step, as a multiple of `import torch`."""
    seconds = in_turn(["-c", "import torch"], ["-c", UNTIL_FIRST_STEP], pairs, (77,))
    found = spread([ours[0] / bare[0] for bare, ours in seconds]) | {
        "cpu_ratio": statistics.median(ours[1] / bare[1] for bare, ours in seconds),
        "bare_seconds": statistics.median(bare[0] for bare, _ in seconds),
        "clx_seconds": statistics.median(ours[0] for _, ours in seconds),
        "pairs": pairs,
    }
    show(
        "startup_first_step",
        f"torch {found['bare_seconds']:6.3f} s   clx {found['clx_seconds']:7.3f} s   {band(found)} "
        f"(cpu {found['cpu_ratio']:.3f})",
        judge(found, "ratio", FIRST_STEP),
    )
    return found


def short_command(name: str, pairs: int) -> Found:
    """A command that trains nothing, in seconds beyond `import hydra`."""
    seconds = in_turn(["-c", "import hydra"], ["-m", "clx", *COMMANDS[name]], pairs, (0, 2))
    found = spread([ours[0] - bare[0] for bare, ours in seconds], "beyond_seconds") | {
        "cpu_beyond_seconds": statistics.median(ours[1] - bare[1] for bare, ours in seconds),
        "bare_seconds": statistics.median(bare[0] for bare, _ in seconds),
        "clx_seconds": statistics.median(ours[0] for _, ours in seconds),
        "pairs": pairs,
    }
    show(
        name,
        f"hydra {found['bare_seconds']:6.3f} s   clx {found['clx_seconds']:7.3f} s   "
        f"{band(found, 'beyond_seconds', ' s')} (cpu {found['cpu_beyond_seconds']:.3f})",
        judge(found, "beyond_seconds", SHORT_COMMAND),
    )
    return found


REPORTS: dict[str, Callable[[int], Found]] = {
    "startup_first_step": first_step,
    **{name: partial(short_command, name) for name in COMMANDS},
}
