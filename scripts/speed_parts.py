"""Single parts of clx beside what they replace: heads, buffers, herding, latent replay."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from speed_bare import herd as bare_herd
from speed_bare import reservoir as kept_slots
from speed_measure import Found, Pair, Work, band, show, spread
from torch import Tensor

from clx.benchmark.split import Split
from clx.buffer.herding import herd
from clx.buffer.latent_replay import LatentReplay
from clx.buffer.reservoir import Reservoir
from clx.data.synthetic import Synthetic
from clx.loop.trainer import Trainer
from clx.model.dynamic import model_adaptation
from clx.model.head.cwr import CWRClassifier
from clx.model.head.incremental import IncrementalClassifier
from clx.model.head.multi_head import MultiHeadClassifier
from clx.model.mobilenet_v1 import MobileNetV1
from clx.model.simple_mlp import SimpleMLP
from clx.runtime import seed as seeding
from clx.strategy.ar1 import AR1
from clx.types import Batch, Experience, Objective


def multi_head() -> Pair:
    """200 passes of 256 samples of 20 tasks with 5 classes each, against one linear layer of 100 units."""
    heads = SimpleMLP(hidden_size=512)
    heads.classifier = MultiHeadClassifier(512, initial_out_features=5)
    for index in range(20):
        classes = tuple(range(5 * index, 5 * index + 5))
        model_adaptation(heads, Experience(index=index, classes=classes, classes_by_task={index: classes}))
    one, x, labels = SimpleMLP(num_classes=100, hidden_size=512), torch.randn(256, 784), torch.randint(20, (256,))
    heads.eval(), one.eval()

    @torch.no_grad()
    def passes(model: SimpleMLP, task_labels: Tensor | None) -> Tensor:
        return torch.tensor([float(model(x, task_labels).shape[1]) for _ in range(200)])

    return Pair(bare=lambda: partial(passes, one, None), ours=lambda: partial(passes, heads, labels))


def herding() -> Pair:
    """2,000 of 50,000 samples of one class with 512 features, in float64."""
    features = torch.randn(50_000, 512, generator=seeding.generator("features"))
    few = features[:2000]

    def work(function: Callable[[Tensor, int], Tensor], of: Tensor, count: int) -> Work:
        return lambda: function(of, count)

    short = Pair(bare=partial(work, bare_herd, few, 200), ours=partial(work, herd, few, 200))
    return Pair(bare=partial(work, bare_herd, features, 2000), ours=partial(work, herd, features, 2000), short=short)


def reservoir(count: int = 100_000, size: int = 10, capacity: int = 500) -> Pair:
    """That many images of 1x28x28 offered in batches of 10."""
    x = torch.randint(256, (1000, 1, 28, 28), dtype=torch.uint8)
    y, t = torch.arange(1000) % 10, torch.zeros(1000, dtype=torch.int64)
    offered = [Batch(x[i : i + size], y[i : i + size], t[:size], x[i : i + size]) for i in range(0, 1000, size)]

    def bare() -> Tensor:
        stored_x, stored_y = torch.zeros(capacity, 1, 28, 28, dtype=torch.uint8), torch.zeros(capacity).long()
        draw = seeding.generator("buffer", 0)
        for number in range(count // size):
            batch = offered[number % len(offered)]
            slots, kept = kept_slots(number * size, size, capacity, draw)
            if slots:
                chosen = torch.tensor(kept)
                stored_x[slots] = batch.x.index_select(0, chosen)
                stored_y[slots] = batch.y.index_select(0, chosen)
        return torch.cat((stored_x.flatten().float(), stored_y.float()))

    def ours() -> Tensor:
        buffer = Reservoir(capacity, 0, offer="every_epoch")
        for number in range(count // size):
            buffer.add(offered[number % len(offered)])
        kept = buffer.samples()
        return torch.cat((kept.raw.flatten().float(), kept.y.float()))

    return Pair(bare=lambda: bare, ours=lambda: ours)


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


def growth(_: int) -> Found:
    """Median milliseconds of an adaptation among the first 50 and the last 50, and the worst of these."""
    ours, bare = growth_seconds(), copying_seconds()
    found = {
        "first_ms": 1e3 * statistics.median(ours[:50]),
        "last_ms": 1e3 * statistics.median(ours[-50:]),
        "last_worst_ms": 1e3 * max(ours[-50:]),
        "copying_last_ms": 1e3 * statistics.median(bare[-50:]),
    }
    show(
        "growth",
        f"first {found['first_ms']:.3f} ms   last {found['last_ms']:.3f} ms (worst {found['last_worst_ms']:.3f})   "
        f"copying all rows {found['copying_last_ms']:.3f} ms",
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


def ar1(pairs: int) -> Found:
    """Median over the pairs of (second epoch) / (first epoch)."""
    seconds = [ar1_seconds() for _ in range(pairs)]
    found = spread([two / one for one, two in seconds]) | {"pairs": pairs}
    show("ar1", f"second epoch / first epoch {band(found)}")
    return found


CASES: dict[str, Callable[[], Pair]] = {"multi_head": multi_head, "herding": herding, "reservoir": reservoir}
REPORTS: dict[str, Callable[[int], Found]] = {"growth": growth, "ar1": ar1}
