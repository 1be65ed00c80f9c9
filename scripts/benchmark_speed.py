"""How fast clx is, each number beside that of the same work done without it. The one place where speed is measured.

For most cases a bare PyTorch loop over tensors in memory and clx work in turn, in one process, on the same data,
weights, draws and batches, and end at the same result, which is checked; each pair gives a ratio, and the median of
the ratios is the result. Compare nothing across machines or runs. On a machine that does other things
meanwhile, look at the ratio of CPU times too, and at that of the two fastest.

training (speed_training.py against speed_bare.py, speed_bare_springs.py)
    finetune, er, lwf, ewc_online, si, agem, icarl: three experiences (agem: two) of two classes of Fashion-MNIST, 6,000
    images each, through an MLP of two hidden layers of 400, batches of 64; what a method does between its experiences
    (Fisher information, herding) is timed too. online_er: batches of 10 and 10 replayed. er_cnn: SimpleCNN.
    resnet18: with crop and flip, against the same images as floats without either.
streams (speed_stream.py)
    evaluation: 50 test sets at once, against one forward pass over their samples as floats. thousand_experiences:
    milliseconds of each beyond its steps, its evaluation and its checkpoints.
parts (speed_parts.py)
    multi_head: heads of 20 tasks with 5 classes each, against one linear layer of 100 units. herding: 2,000 of 50,000
    samples. reservoir: 100,000 samples in batches of 10. growth: milliseconds that a head of 512 features needs to
    adapt to 10 more classes, over 1,000 experiences. ar1: the second epoch of an experience of 800 images of 3x64x64
    through MobileNetV1 cut at unit 19, beside 100 stored latents, as a multiple of its first one, in which everything
    below the cut is computed.
seeds (speed_ensemble.py)
    ensemble_784, ensemble_64: eight seeds at once through perceptrons of 784-100-100-10 and 64-100-10, batches of 10,
    against the same eight one after the other.
processes (speed_startup.py, speed_memory.py, speed_checkpoints.py)
    startup_first_step: bare `clx` until its first step, against `import torch`. startup_help, startup_list,
    startup_wrong_option, startup_wrong_key: seconds beyond `import hydra`. memory: the peak of er on Fashion-MNIST.
    checkpoints: what er's run spends on one after each experience, and its size.

    .venv/bin/python scripts/benchmark_speed.py [--case finetune]... [--pairs 7] [--threads 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import speed_ensemble
import speed_memory
import speed_parts
import speed_startup
import speed_stream
import speed_training
import torch
from speed_checkpoints import checkpoint_cost
from speed_measure import Found, Pair, ratio, show, surroundings

from clx.benchmark.split import Split

FEWEST = 7  # pairs


def checkpoints(runs: int) -> Found:
    """Median over the runs of er on all of the data, with a checkpoint after each experience."""
    split = Split(data=speed_training.data_set(), num_experiences=5, root=str(speed_training.root()))
    found = [checkpoint_cost(speed_training.trainer(speed_training.er), split) for _ in range(runs)]
    cost, size = (statistics.median(values) for values in zip(*found, strict=True))
    show("checkpoints", f"{cost:.2%} of training; size / what it holds {size:.3f}, of {runs} runs")
    return {"cost": cost, "size": size, "runs": runs}


def registry() -> dict[str, Callable[[int], Found]]:
    """name -> what measures it with that many pairs, shows a line and returns the numbers. A further kind of case is
    a further module with CASES (pairs of sides) or REPORTS (everything else)."""
    cases: dict[str, Callable[[], Pair]] = {
        **speed_training.CASES,
        **speed_stream.CASES,
        **speed_parts.CASES,
        **speed_ensemble.CASES,
    }
    return {
        **{name: partial(measured, name, case) for name, case in cases.items()},
        **speed_stream.REPORTS,
        **speed_parts.REPORTS,
        "checkpoints": checkpoints,
        **speed_startup.REPORTS,
        **speed_memory.REPORTS,
    }


def measured(name: str, case: Callable[[], Pair], pairs: int) -> Found:
    """The case is made here, so that data is read only for what is asked for."""
    return ratio(name, case(), pairs)


def main() -> None:
    """Print a line for each case."""
    known = registry()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", help="one of those above; may be given again (default: all)")
    parser.add_argument("--pairs", type=int, default=FEWEST, help=f"at least {FEWEST} for numbers to be published")
    parser.add_argument("--threads", type=int, help="of torch (default: its own choice)")
    parser.add_argument("--json", help="write the numbers and the machine into this file")
    args = parser.parse_args()
    unknown = set(args.case or []) - set(known)
    if unknown:
        parser.error(f"--case {unknown.pop()}: there are {', '.join(known)}")
    if args.pairs < 1:
        parser.error(f"--pairs {args.pairs}: give at least 1")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
        os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of the processes that are measured
    machine = surroundings()
    print(", ".join(f"{name} {value}" for name, value in machine.items() if value is not None), flush=True)
    results = {name: known[name](args.pairs) for name in args.case or known}
    missed = [name for name, found in results.items() if found.get("ok") is False]
    print(f"over the limit: {', '.join(missed)}" if missed else "no limit missed")
    if args.json:
        Path(args.json).write_text(json.dumps({"machine": machine, "cases": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
