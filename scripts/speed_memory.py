"""The most memory that a process holds: er on Fashion-MNIST as a bare loop, and as the command `clx`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import torch
from speed_measure import Found, band, judge, show, spread
from speed_training import data_set, root

LIMIT = 1.2  # times the bare loop's peak
OPTIONS = ["strategy=er", "buffer.capacity=500", "trainer.epochs=1", "trainer.batch_size=64", "trainer.device=cpu"]
# Of this process alone; what resource.getrusage says begins with its parent's.
PEAK = "\nimport re\nprint('peak', re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read()).group(1))\n"
OURS = "import sys\nfrom clx.cli import main\nassert main(sys.argv[1:]) == 0" + PEAK
# All images stay bytes; five experiences of two classes, the test set after each. Argument: a file with the tensors.
BARE = (
    textwrap.dedent("""
    import sys, torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    x, y, test_x, test_y = torch.load(sys.argv[1], weights_only=True, mmap=True)
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    stored_x, stored_y, met = torch.zeros(500, 784, dtype=torch.uint8), torch.zeros(500).long(), 0
    floats = lambda raw: raw.float().mul_(1 / 255).sub_(0.286).div_(0.353)
    for first in range(0, 10, 2):
        rows = ((y == first) | (y == first + 1)).nonzero().squeeze(1)
        for index in rows[torch.randperm(len(rows))].split(64):
            fresh_x, fresh_y = x[index], y[index]
            drawn = torch.randperm(min(met, 500))[:64]
            joint_x, joint_y = torch.cat((fresh_x, stored_x[drawn])), torch.cat((fresh_y, stored_y[drawn]))
            optimizer.zero_grad()
            cross_entropy(model(floats(joint_x)), joint_y).backward()
            optimizer.step()
            position = met + torch.arange(len(index))
            slot = torch.where(position < 500, position, (torch.rand(len(index)) * (position + 1)).long())
            stays = slot < 500
            stored_x[slot[stays]], stored_y[slot[stays]] = fresh_x[stays], fresh_y[stays]
            met += len(index)
        with torch.no_grad():
            hits = sum((model(floats(a)).argmax(1) == b).sum() for a, b in zip(test_x.split(512), test_y.split(512)))
    """)
    + PEAK
)


def peak(*words: str) -> float:
    """MiB that a Python process held at most. Raises RuntimeError where it fails."""
    environment = os.environ | {"CLX_DATA_ROOT": str(root())}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("peak ")]
    if done.returncode or not lines:
        raise RuntimeError(f"the measured process ended with {done.returncode}: {done.stderr[-500:]}")
    return int(lines[-1].split()[1]) / 1024


def memory(pairs: int) -> Found:
    """Peak of the whole process, Python and torch included; a few pairs are enough for what hardly varies."""
    data = data_set()
    if data.name != "fashion_mnist" or not Path("/proc/self/status").exists():
        show("memory", "left out: it needs Fashion-MNIST, and Linux")
        return {"left_out": True}
    pairs, seen = min(pairs, 3), []
    with tempfile.TemporaryDirectory() as folder:
        file, out = f"{folder}/data.pt", f"output_root={folder}/out"
        train, test = data.load(root())
        torch.save([t.flatten(1) if t.dim() > 1 else t for t in (*train, *test)], file)
        for _ in range(pairs):
            ours = peak("-c", OURS, "benchmark=split_fashion_mnist", *OPTIONS, out, "rerun=true")
            seen.append((peak("-c", BARE, file), ours))
    found = spread([ours / bare for bare, ours in seen]) | {
        "bare_mib": min(bare for bare, _ in seen),
        "clx_mib": min(ours for _, ours in seen),
        "pairs": pairs,
    }
    show(
        "memory",
        f"bare {found['bare_mib']:.0f} MiB   clx {found['clx_mib']:.0f} MiB   {band(found)}",
        judge(found, "ratio", LIMIT),
    )
    return found


REPORTS: dict[str, Callable[[int], Found]] = {"memory": memory}
