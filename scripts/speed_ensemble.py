"""Training time of eight seeds at once as a share of the same eight one after the other.

Both sides are Trainers of clx, in turn, in one process, on the same data and seeds; each pair gives a ratio, and the
median of the ratios is the result. mlp_784: 784-100-100-10 on images of 28x28; mlp_64: 64-100-10 on the embedded
digits; batches of 10, two classes at a time, plain fine-tuning; with --strategy er, 10 samples of a reservoir of 200
replayed in each step. Compare nothing across machines.

    .venv/bin/python scripts/speed_ensemble.py [--case mlp_784] [--strategy finetune] [--pairs 7] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

# Threads that wait sleep: spinning, they would measure what else this machine is at.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from clx.benchmark.split import Split
from clx.buffer.reservoir import Reservoir
from clx.data.digits import Digits
from clx.data.synthetic import Synthetic
from clx.loop.course import Course, alone
from clx.loop.together import together
from clx.loop.trainer import Trainer
from clx.model.head.incremental import IncrementalClassifier
from clx.model.mlp import MLP
from clx.runtime import seed as seeding
from clx.strategy.er import ER
from clx.strategy.finetune import Finetune

SEEDS = tuple(range(8))
BATCH, REPLAY, CAPACITY, LEARNING_RATE = 10, 10, 200, 0.05
CASES = {"mlp_784": (784, (100, 100), 1), "mlp_64": (64, (100,), 5)}  # inputs, hidden units, epochs
STRATEGIES = ("finetune", "er")


def benchmark(case: str) -> Split:
    """Five experiences of two classes; 4,000 images in all, or the 1,434 digits."""
    images = Synthetic([1, 28, 28], num_classes=10, train_per_class=400, test_per_class=10, noise=64.0, seed=0)
    made = Split(data=images if case == "mlp_784" else Digits(), num_experiences=5)
    made.load()
    return made


def course(stream: Split, case: str, strategy: str, seed: int) -> Course:
    """The training of one seed."""
    seeding.seed_everything(seed)
    inputs, hidden, epochs = CASES[case]
    model = MLP(input_size=inputs, hidden_sizes=hidden)
    model.classifier = IncrementalClassifier(model.feature_dim)
    buffer = Reservoir(CAPACITY, seed, offer="first_epoch")
    method = ER(model, buffer, replay_size=REPLAY) if strategy == "er" else Finetune(model)
    sgd = partial(torch.optim.SGD, lr=LEARNING_RATE)
    trainer = Trainer(method, sgd, epochs=epochs, batch_size=BATCH, device="cpu", seed=seed)
    trainer.attach(stream.transform)
    for experience in stream.train:
        yield from trainer.course(experience)


def seconds(stream: Split, case: str, strategy: str, *, at_once: bool) -> float:
    """Seconds of all seeds."""
    courses: Sequence[Course] = [course(stream, case, strategy, seed) for seed in SEEDS]
    started = time.perf_counter()
    if at_once:
        together(courses)
    else:
        for single in courses:
            alone(single)
    return time.perf_counter() - started


def ratio(case: str, strategy: str, pairs: int) -> dict[str, float]:
    """Median and spread over the pairs, after one of each that warms up and is thrown away."""
    stream = benchmark(case)
    measured = []
    for pair in range(-1, pairs):
        order = (False, True) if pair % 2 == 0 else (True, False)  # neither always runs on the warmer machine
        found = {at_once: seconds(stream, case, strategy, at_once=at_once) for at_once in order}
        measured += [found] if pair >= 0 else []
    ratios = [found[True] / found[False] for found in measured]
    return {
        "one_after_the_other_seconds": statistics.median(found[False] for found in measured),
        "at_once_seconds": statistics.median(found[True] for found in measured),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "pairs": pairs,
    }


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=list(CASES), help="default: both")
    parser.add_argument("--strategy", choices=STRATEGIES, default=STRATEGIES[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="write the numbers into this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = {}
    for case in args.case or CASES:
        results[case] = found = ratio(case, args.strategy, args.pairs)
        print(
            f"{case:8s} {args.strategy}: one after the other {found['one_after_the_other_seconds']:.3f} s   at once "
            f"{found['at_once_seconds']:.3f} s   ratio {found['ratio']:.3f}  "
            f"[{found['ratio_low']:.3f}, {found['ratio_high']:.3f}] of {args.pairs} pairs",
            flush=True,
        )
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
