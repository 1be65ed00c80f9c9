"""Training time of clx as a multiple of the same arithmetic in a bare PyTorch loop over tensors in memory.

The bare loop and clx train in turn, in one process, on the same data, model, optimizer and batches; each pair
gives a ratio, and the median of the ratios is the result. Compare nothing across machines or runs.

finetune, er: training on five experiences. multi_head: one forward pass of 256 samples of 20 tasks with 5
classes each, against the backbone and one linear layer of 100 units. growth: milliseconds that a head of 512
features needs to adapt to 10 more classes, over 1,000 experiences; its bare side copies the old rows. ar1: the second
epoch of an experience of 800 images of 3x64x64 through MobileNetV1 cut at unit 19, beside 100 stored latents, as a
multiple of its first one, in which everything below the cut is computed.

    .venv/bin/python scripts/benchmark_speed.py [--case finetune] [--pairs 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clx.benchmark.split import Split
from clx.buffer.latent_replay import LatentReplay
from clx.buffer.reservoir import Reservoir
from clx.data.dataset import DataSet
from clx.data.mnist import MNIST
from clx.data.synthetic import Synthetic
from clx.loop.trainer import Trainer
from clx.model.dynamic import model_adaptation
from clx.model.head.cwr import CWRClassifier
from clx.model.head.incremental import IncrementalClassifier
from clx.model.head.multi_head import MultiHeadClassifier
from clx.model.mobilenet_v1 import MobileNetV1
from clx.model.simple_mlp import SimpleMLP
from clx.strategy.ar1 import AR1
from clx.strategy.er import ER
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Objective

BATCH, REPLAY, CAPACITY, LEARNING_RATE = 64, 64, 500, 0.05
EXPERIENCES = 5
Experiences = list[tuple[Tensor, Tensor]]


def data_set() -> DataSet:
    """Fashion-MNIST where it is there, else synthetic images of the same shape and number."""
    data = MNIST("fashion_mnist")
    try:
        data.files(root())
    except FileNotFoundError:
        return Synthetic([1, 28, 28], num_classes=10, train_per_class=6000, test_per_class=100, noise=64.0, seed=0)
    return data


def root() -> Path:
    """The data_root of the configuration's default."""
    return Path(os.environ.get("CLX_DATA_ROOT", "~/.cache/clx/data")).expanduser()


def tensors(benchmark: Split) -> Experiences:
    """Every experience as normalised floats and classes: what the bare loop has in memory."""
    transform = benchmark.transform.train
    return [(transform(e.data.raw).flatten(1), e.data.y) for e in benchmark.train]


def network() -> nn.Sequential:
    """784-400-400-10."""
    return nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 10))


def bare_finetune(experiences: Experiences) -> float:
    """Seconds of training; the logits are cut to the classes seen, as the growing head's are."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    started = time.perf_counter()
    for number, (x, y) in enumerate(experiences):
        seen = 2 * (number + 1)
        for index in torch.randperm(len(x)).split(BATCH):
            loss = cross_entropy(model(x[index])[:, :seen], y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return time.perf_counter() - started


def bare_er(experiences: Experiences) -> float:
    """The same with a reservoir of floats, vectorised as well as can be."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    stored_x, stored_y = torch.zeros(CAPACITY, 784), torch.zeros(CAPACITY, dtype=torch.int64)
    filled, met = 0, 0
    started = time.perf_counter()
    for number, (x, y) in enumerate(experiences):
        seen = 2 * (number + 1)
        for index in torch.randperm(len(x)).split(BATCH):
            fresh_x, fresh_y = x[index], y[index]
            joint_x, joint_y = fresh_x, fresh_y
            if filled:
                drawn = torch.randperm(filled)[:REPLAY]
                joint_x, joint_y = torch.cat((fresh_x, stored_x[drawn])), torch.cat((fresh_y, stored_y[drawn]))
            loss = cross_entropy(model(joint_x)[:, :seen], joint_y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            position = met + torch.arange(len(index))
            slot = torch.where(position < CAPACITY, position, (torch.rand(len(index)) * (position + 1)).long())
            stays = slot < CAPACITY
            stored_x[slot[stays]], stored_y[slot[stays]] = fresh_x[stays], fresh_y[stays]
            met += len(index)
            filled = min(met, CAPACITY)
    return time.perf_counter() - started


def clx_seconds(benchmark: Split, *, replay: bool) -> float:
    """Seconds that clx's Trainer spends on training the same."""
    model = SimpleMLP(hidden_size=400, hidden_layers=2, drop_rate=0.0)
    model.classifier = IncrementalClassifier(model.feature_dim)
    buffer = Reservoir(CAPACITY, 0, offer="first_epoch")
    strategy = ER(model, buffer, replay_size=REPLAY) if replay else Finetune(model)
    sgd = partial(torch.optim.SGD, lr=LEARNING_RATE)
    trainer = Trainer(strategy, sgd, epochs=1, batch_size=BATCH, device="cpu")
    trainer.train(benchmark.train)
    return trainer.train_seconds


def mixed_batch() -> tuple[SimpleMLP, Tensor, Tensor]:
    """An MLP with 20 heads of 5 classes, 256 inputs, and a task label for each."""
    model = SimpleMLP(hidden_size=512)
    model.classifier = MultiHeadClassifier(512, initial_out_features=5)
    for index in range(20):
        classes = tuple(range(5 * index, 5 * index + 5))
        model_adaptation(model, Experience(index=index, classes=classes, classes_by_task={index: classes}))
    return model.eval(), torch.randn(256, 784), torch.randint(20, (256,))


@torch.no_grad()
def forward_seconds(model: SimpleMLP, x: Tensor, labels: Tensor | None, repeats: int = 200) -> float:
    """Seconds of that many forward passes."""
    started = time.perf_counter()
    for _ in range(repeats):
        model(x, labels)
    return time.perf_counter() - started


def growth_seconds(classes: int = 10, features: int = 512, experiences: int = 1000) -> list[float]:
    """Seconds of each adaptation of a growing head."""
    head, seconds = IncrementalClassifier(features), []
    for index in range(experiences):
        experience = Experience(index=index, classes=tuple(range(classes * index, classes * (index + 1))))
        started = time.perf_counter()
        head.adaptation(experience)
        seconds.append(time.perf_counter() - started)
    return seconds


def copying_seconds(classes: int = 10, features: int = 512, experiences: int = 1000) -> list[float]:
    """Seconds of the same growth where every experience copies all rows into a longer matrix."""
    weight, seconds = torch.zeros(2, features), []
    for index in range(experiences):
        started = time.perf_counter()
        more = classes * (index + 1) - len(weight)
        weight = torch.cat((weight, torch.empty(more, features).uniform_(-0.04, 0.04)))
        seconds.append(time.perf_counter() - started)
    return seconds


def report_growth() -> dict[str, float]:
    """Median milliseconds of an adaptation among the first 50 and the last 50, and the worst of these."""
    ours, bare = growth_seconds(), copying_seconds()
    found = {
        "first_ms": 1e3 * statistics.median(ours[:50]),
        "last_ms": 1e3 * statistics.median(ours[-50:]),
        "last_worst_ms": 1e3 * max(ours[-50:]),
        "copying_last_ms": 1e3 * statistics.median(bare[-50:]),
    }
    print(
        f"growth     first {found['first_ms']:.3f} ms   last {found['last_ms']:.3f} ms (worst "
        f"{found['last_worst_ms']:.3f})   copying all rows {found['copying_last_ms']:.3f} ms",
        flush=True,
    )
    return found


def ar1_seconds() -> tuple[float, float]:
    """Seconds of the first and of the second epoch of AR1's second experience."""
    torch.manual_seed(0)
    data = Synthetic([3, 64, 64], num_classes=4, train_per_class=400, test_per_class=1, noise=32.0, seed=0)
    first, second = Split(data=data, num_experiences=2).train
    model = MobileNetV1()
    model.classifier = CWRClassifier(model.feature_dim)
    strategy = AR1(
        model,
        LatentReplay(100, 0),
        inc_lr=0.001,
        init_update_rate=0.01,
        inc_update_rate=5e-5,
        max_r_max=1.25,
        max_d_max=0.5,
        inc_step=4.1e-5,
        freeze_below_layer=None,
        latent_layer_num=19,
        train_mb_size=64,
    )
    trainer = Trainer(strategy, partial(torch.optim.SGD, lr=0.01), epochs=1, batch_size=64, device="cpu")
    few = replace(first, train=first.data[torch.randperm(len(first.data))[:100]])
    trainer.train(few)
    observe, turns = strategy.observe_latents, []

    def watch(batch: Batch, replayed: int) -> Objective:
        if batch.clock.epoch == 1 and not turns:
            turns.append(time.perf_counter())
        return observe(batch, replayed)

    strategy.observe_latents = watch  # type: ignore[method-assign]  # for this measurement alone
    trainer.settings.epochs, started = 2, time.perf_counter()
    trainer.train(second)
    return turns[0] - started, time.perf_counter() - turns[0]


def report_ar1(pairs: int) -> dict[str, float]:
    """Median over the pairs of (second epoch) / (first epoch)."""
    ratios = []
    for _ in range(pairs):
        one, two = ar1_seconds()
        ratios.append(two / one)
    found = {"ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios), "pairs": pairs}
    print(
        f"ar1        second epoch / first epoch {found['ratio']:.3f}  "
        f"[{found['ratio_low']:.3f}, {found['ratio_high']:.3f}] of {pairs} pairs",
        flush=True,
    )
    return found


Timed = Callable[[], float]


def cases(benchmark: Split, experiences: Experiences) -> dict[str, tuple[Timed, Timed]]:
    """name -> (bare, clx), each a function that does the work once and returns seconds."""
    heads, x, labels = mixed_batch()
    one = SimpleMLP(num_classes=100, hidden_size=512).eval()
    return {
        "multi_head": (partial(forward_seconds, one, x, None), partial(forward_seconds, heads, x, labels)),
        "finetune": (partial(bare_finetune, experiences), partial(clx_seconds, benchmark, replay=False)),
        "er": (partial(bare_er, experiences), partial(clx_seconds, benchmark, replay=True)),
    }


def measure(bare: Timed, ours: Timed, pairs: int) -> dict[str, float]:
    """Medians and the spread of the ratio over the pairs, after one pair that warms up and is thrown away."""
    bare(), ours()
    seconds = []
    for pair in range(pairs):
        order = (bare, ours) if pair % 2 == 0 else (ours, bare)  # neither always runs on the warmer machine
        first, second = order[0](), order[1]()
        seconds.append((first, second) if pair % 2 == 0 else (second, first))
    ratios = [b / a for a, b in seconds]
    return {
        "bare_seconds": statistics.median(a for a, _ in seconds),
        "clx_seconds": statistics.median(b for _, b in seconds),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "pairs": pairs,
    }


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", help="finetune, er, multi_head, growth, ar1 (default: all)")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--json", help="write the numbers into this file")
    args = parser.parse_args()
    benchmark = Split(data=data_set(), num_experiences=EXPERIENCES, root=str(root()))
    known = cases(benchmark, tensors(benchmark))
    reports: dict[str, Callable[[], dict[str, float]]] = {
        "growth": report_growth,
        "ar1": partial(report_ar1, args.pairs),
    }
    names = [*known, *reports]
    unknown = set(args.case or []) - set(names)
    if unknown:
        parser.error(f"--case {unknown.pop()}: there are {', '.join(names)}")
    print(f"{benchmark.data.name}, {torch.get_num_threads()} threads, torch {torch.__version__}, {platform.machine()}")
    results = {}
    for name in args.case or names:
        if name in reports:
            results[name] = reports[name]()
            continue
        results[name] = found = measure(*known[name], args.pairs)
        print(
            f"{name:10s} bare {found['bare_seconds']:.3f} s   clx {found['clx_seconds']:.3f} s   "
            f"ratio {found['ratio']:.3f}  [{found['ratio_low']:.3f}, {found['ratio_high']:.3f}] of {args.pairs} pairs",
            flush=True,
        )
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
