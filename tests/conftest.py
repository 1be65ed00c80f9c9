"""Tiny parts that several test folders need: a stream, networks, samples that say which they are."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; set before torch starts its threads

import pytest
import torch
from torch import Tensor

from clx.benchmark.split import Split
from clx.buffer.base import Buffer
from clx.data.synthetic import Synthetic
from clx.loop.trainer import Trainer
from clx.model.base import Model
from clx.model.head.cosine import CosineClassifier
from clx.model.head.incremental import IncrementalClassifier
from clx.model.head.multi_head import MultiHeadClassifier
from clx.model.head.split_cosine import SplitCosine
from clx.model.simple_mlp import SimpleMLP
from clx.strategy.finetune import Finetune
from clx.types import Batch, Clock, Experience, Samples


@pytest.fixture
def make_benchmark() -> Callable[..., Split]:
    """make_benchmark(**keys): 6 classes of 1x4x4 images over 3 experiences, 8 training and 4 test images a class."""

    def make(**keys: Any) -> Split:
        data = Synthetic([1, 4, 4], num_classes=6, train_per_class=8, test_per_class=4, noise=32.0, seed=0)
        return Split(**{"data": data, "num_experiences": 3} | keys)

    return make


HEADS = {
    "incremental": IncrementalClassifier,
    "multi_head": MultiHeadClassifier,
    "cosine": CosineClassifier,
    "split_cosine": SplitCosine,
}


@pytest.fixture
def make_model() -> Callable[..., SimpleMLP]:
    """make_model(head="incremental", drop_rate=0.0): an MLP for those images, 8 hidden units, the same every time."""

    def make(head: str = "incremental", drop_rate: float = 0.0) -> SimpleMLP:
        torch.manual_seed(0)
        model = SimpleMLP(input_size=16, hidden_size=8, drop_rate=drop_rate)
        model.classifier = HEADS[head](8)
        return model

    return make


class Linear(Model):
    """Its features are its inputs."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.feature_dim = len(rows[0])
        self.classifier = IncrementalClassifier(self.feature_dim, len(rows))
        self.classifier.adaptation(Experience(index=0, classes=tuple(range(len(rows)))))
        self.set_rows(rows)

    @torch.no_grad()
    def set_rows(self, rows: Sequence[Sequence[float]]) -> None:
        self.classifier.classifier.weight.copy_(torch.tensor(rows))
        self.classifier.classifier.bias.zero_()

    def features(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture
def make_linear() -> type[Linear]:
    """make_linear(rows): logits = rows x, so that losses can be worked out by hand; model.set_rows(rows)."""
    return Linear


def numbered(counts: Mapping[int, int], start: int = 0) -> Samples:
    classes = torch.tensor([label for label, count in counts.items() for _ in range(count)], dtype=torch.int64)
    numbers = torch.tensor([start + n for count in counts.values() for n in range(count)], dtype=torch.int64)
    return Samples(torch.stack((classes, numbers), 1).float(), classes, classes + 10)


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """make_batch({class: count}, start=0, epoch=0): inputs (class, number from start), task labels class + 10."""

    def make(counts: Mapping[int, int], *, start: int = 0, epoch: int = 0) -> Batch:
        samples = numbered(counts, start)
        return Batch(samples.raw, samples.y, samples.t, samples.raw, clock=Clock(epoch=epoch))

    return make


@pytest.fixture
def make_experience() -> Callable[..., Experience]:
    """make_experience(index, {class: count}, start=0): the same samples as an experience of those classes."""

    def make(index: int, counts: Mapping[int, int], *, start: int = 0) -> Experience:
        return Experience(index=index, classes=tuple(counts), train=numbered(counts, start))

    return make


def stored(buffer: Buffer) -> list[tuple[int, int]]:
    samples = buffer.samples()
    pairs = [(int(label), int(number)) for label, number in samples.raw.tolist()]
    assert samples.y.tolist() == [label for label, _ in pairs]
    assert samples.t.tolist() == [label + 10 for label, _ in pairs]
    return pairs


@pytest.fixture
def contents() -> Callable[[Buffer], list[tuple[int, int]]]:
    """contents(buffer): (class, number) of what it stores of such samples; class and task label must belong to it."""
    return stored


@pytest.fixture
def check_same_future(make_batch: Any, make_experience: Any) -> Callable[[Callable[[], Buffer]], None]:
    """check_same_future(make_buffer): one that was stored and loaded goes on as the one that never stopped."""

    def live(buffer: Buffer, index: int) -> list[Any]:
        """Three batches of two classes (the third a second epoch), an experience of the same, and draws in between."""
        first, seen = 2 * index, []
        for epoch, start in ((0, 0), (0, 3), (1, 6)):
            buffer.add(make_batch({first: 3, first + 1: 2}, start=start, epoch=epoch))
            seen += [stored(buffer), buffer.sample(3).raw.tolist() if len(buffer) else None]
        buffer.consolidate(make_experience(index, {first: 5, first + 1: 4}), lambda samples: samples.raw.cos())
        return [*seen, stored(buffer), buffer.sample(3).raw.tolist(), buffer.nbytes]

    def check(make_buffer: Callable[[], Buffer]) -> None:
        original, copy = make_buffer(), make_buffer()
        for index in range(2):
            live(original, index)
        file = io.BytesIO()
        torch.save(original.state_dict(), file)
        file.seek(0)
        copy.load_state_dict(torch.load(file, weights_only=True))
        assert stored(copy) == stored(original)
        for index in (2, 3, 0):
            assert live(copy, index) == live(original, index)

    return check


@pytest.fixture
def train_tiny(make_benchmark: Any, make_model: Any) -> Callable[..., dict[str, Tensor]]:
    """train_tiny(make_strategy, head=..., regularizers=...): the weights after the tiny stream, dropout, momentum and
    all, from the same seeds every time."""

    def train(
        make_strategy: Callable[[Model], Finetune], head: str = "incremental", **options: Any
    ) -> dict[str, Tensor]:
        scenario = "task_incremental" if head == "multi_head" else "class_incremental"
        strategy = make_strategy(make_model(head, drop_rate=0.5))
        sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
        trainer = Trainer(strategy, sgd, epochs=2, batch_size=5, device="cpu", seed=3, **options)
        trainer.train(make_benchmark(scenario=scenario).train)
        return {name: value.clone() for name, value in strategy.model.state_dict().items()}

    return train
