"""Eight seeds at once against the same eight one after the other: both sides are Trainers of clx.

ensemble_784: 784-100-100-10 on images of 28x28; ensemble_64: 64-100-10 on the embedded digits; batches of 10, two
classes at a time, plain fine-tuning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from speed_measure import Pair, Work, weights
from torch import Tensor

from clx.benchmark.split import Split
from clx.data.digits import Digits
from clx.data.synthetic import Synthetic
from clx.loop.course import Course, alone
from clx.loop.together import together
from clx.loop.trainer import Trainer
from clx.model.head.incremental import IncrementalClassifier
from clx.model.mlp import MLP
from clx.runtime import seed as seeding
from clx.strategy.finetune import Finetune

SEEDS = tuple(range(8))
SGD = partial(torch.optim.SGD, lr=0.05)


def course(inputs: int, hidden: Sequence[int], epochs: int, stream: Split, seed: int, ended: list[Tensor]) -> Course:
    """The training of one seed, whose weights it adds to those that have ended."""
    seeding.seed_everything(seed)
    model = MLP(input_size=inputs, hidden_sizes=tuple(hidden))
    model.classifier = IncrementalClassifier(model.feature_dim)
    trainer = Trainer(Finetune(model), SGD, epochs=epochs, batch_size=10, device="cpu", seed=seed)
    trainer.attach(stream.transform)
    for experience in stream.train:
        yield from trainer.course(experience)
    ended.append(weights(model))


def side(stream: Split, single: Callable[..., Course], *, at_once: bool) -> Work:
    """All seeds."""
    ended: list[Tensor] = []
    courses = [single(stream, seed, ended) for seed in SEEDS]

    def work() -> Tensor:
        if at_once:
            together(courses)
        else:
            for own in courses:
                alone(own)
        return torch.cat(ended)

    return work


def pair(stream: Split, single: Callable[..., Course], limit: float | None = None) -> Pair:
    """The same eight both ways."""
    stream.load()
    one_by_one, at_once = (partial(side, stream, single, at_once=way) for way in (False, True))
    return Pair(bare=one_by_one, ours=at_once, limit=limit)


def images(samples: int) -> Split:
    """Five experiences of two classes."""
    data = Synthetic([1, 28, 28], num_classes=10, train_per_class=samples, test_per_class=10, noise=64.0, seed=0)
    return Split(data=data, num_experiences=5)


def ensemble_784() -> Pair:
    """4,000 images, one epoch."""
    single = partial(course, 784, (100, 100), 1)
    return replace(pair(images(400), single, 0.70), short=pair(images(20), single))


def ensemble_64() -> Pair:
    """The 1,434 training digits, five epochs."""
    single, digits = partial(course, 64, (100,), 5), Digits()
    short = Split(data=digits, num_experiences=5, samples_per_class=10)
    return replace(pair(Split(data=digits, num_experiences=5), single, 0.45), short=pair(short, single))


CASES: dict[str, Callable[[], Pair]] = {"ensemble_784": ensemble_784, "ensemble_64": ensemble_64}
