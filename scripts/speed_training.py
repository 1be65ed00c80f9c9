"""The training cases of benchmark_speed.py: clx's side, and the data and weights that both sides begin with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import speed_bare
import speed_bare_springs
import torch
from speed_bare import Task
from speed_measure import Pair, Work, weights
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clx.benchmark.split import Split
from clx.buffer.equal_random import EqualRandom
from clx.buffer.herding import Herding
from clx.buffer.reservoir import Reservoir
from clx.data.dataset import DataSet
from clx.data.mnist import MNIST
from clx.data.synthetic import Synthetic
from clx.loop.trainer import Trainer
from clx.model.base import Model
from clx.model.dynamic import model_adaptation
from clx.model.head.incremental import IncrementalClassifier
from clx.model.resnet import ResNet
from clx.model.simple_cnn import SimpleCNN
from clx.model.simple_mlp import SimpleMLP
from clx.regularizer.base import Regularizer
from clx.regularizer.ewc_online import EWCOnline
from clx.regularizer.lwf import LwF
from clx.regularizer.si import SI
from clx.strategy.agem import AGEM
from clx.strategy.er import ER
from clx.strategy.finetune import Finetune
from clx.strategy.icarl import ICaRL

SEED = 0
SHARED = 480  # capacity of the memories that are divided among 2, 4 and 6 classes
SGD = partial(torch.optim.SGD, lr=0.05)
Bare = Callable[[nn.Sequential, Task], nn.Module]


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


@cache
def benchmark(samples_per_class: int, experiences: int) -> Any:
    """The first experiences, two classes each, as a list; they are made once, as the bare loop's are."""
    split = Split(data=data_set(), num_experiences=5, samples_per_class=samples_per_class, root=str(root()))
    return list(split.train[:experiences])


def task(samples_per_class: int, experiences: int, *, flat: bool) -> Task:
    """The same as normalised floats."""
    stream = benchmark(samples_per_class, experiences)
    pairs = [(e.transform.train(e.data.raw), e.data.y) for e in stream]
    return Task(experiences=[(x.flatten(1) if flat else x, y) for x, y in pairs], seed=SEED)


def mlp() -> Model:
    """784-400-400 and a head that grows."""
    model = SimpleMLP(hidden_size=400, hidden_layers=2, drop_rate=0.0)
    model.classifier = IncrementalClassifier(model.feature_dim)
    return model


def cnn() -> Model:
    """SimpleCNN on one channel, with a head that grows; without dropout, whose draws no two loops share."""
    model = SimpleCNN(in_channels=1)
    model.classifier = IncrementalClassifier(model.feature_dim)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def grown(make: Callable[[], Model], stream: list[Any]) -> Model:
    """The model as it would be after the stream if nobody had trained it: what every row begins with."""
    torch.manual_seed(SEED)
    model = make()
    for experience in stream:
        model_adaptation(model, experience)
    return model


def bare_mlp(stream: list[Any]) -> nn.Sequential:
    """784-400-400-6 of nn.Linear and nn.ReLU with the weights that clx's begins with."""
    theirs = grown(mlp, stream)
    linear = [m for m in theirs.modules() if isinstance(m, nn.Linear)]
    layers: list[nn.Module] = []
    for layer in linear:
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def bare_cnn(stream: list[Any]) -> nn.Sequential:
    """SimpleCNN's own layers without the dropout, and one linear layer."""
    theirs = grown(cnn, stream)
    head = next(m for m in theirs.classifier.modules() if isinstance(m, nn.Linear))
    return nn.Sequential(*(m for m in theirs.body if not isinstance(m, nn.Dropout)), head)  # type: ignore[union-attr]


def trainer(
    strategy: Callable[[Model], Finetune],
    *,
    make: Callable[[], Model] = mlp,
    batch_size: int = 64,
    regularizers: Mapping[str, Regularizer] | None = None,
) -> Trainer:
    """A fresh one."""
    torch.manual_seed(SEED)
    method = strategy(make())
    return Trainer(method, SGD, batch_size=batch_size, device="cpu", regularizers=regularizers, seed=SEED)


def clx_side(
    stream: list[Any],
    strategy: Callable[[Model], Finetune],
    *,
    make: Callable[[], Model] = mlp,
    batch_size: int = 64,
    regularizers: Callable[[], dict[str, Regularizer]] = dict,
) -> Work:
    """A Trainer over the experiences; everything that train() does is timed."""
    made = trainer(strategy, make=make, batch_size=batch_size, regularizers=regularizers())

    def work() -> Tensor:
        made.train(stream)
        return weights(made.strategy.model)

    return work


def bare_side(function: Bare, what: Task, make: Callable[[], nn.Sequential]) -> Work:
    """The bare loop on a fresh copy of the same weights."""
    model = make()
    return lambda: weights(function(model, what))


def pair(
    function: Bare,
    strategy: Callable[[Model], Finetune],
    limit: float,
    *,
    samples: tuple[int, int] = (3000, 300),
    experiences: int = 3,
    make: Callable[[], Model] = mlp,
    capacity: int = 500,
    batch_size: int = 64,
    replay_size: int = 64,
    regularizers: Callable[[], dict[str, Regularizer]] = dict,
) -> Pair:
    """A method both ways, for one epoch of each experience.

    samples: of each of the two classes of an experience, when timed and when the results are compared.
    """
    whole, short = (
        Pair(
            bare=partial(
                bare_side,
                function,
                replace(
                    task(count, experiences, flat=make is mlp),
                    capacity=capacity,
                    batch_size=batch_size,
                    replay_size=replay_size,
                ),
                partial(bare_mlp if make is mlp else bare_cnn, benchmark(count, experiences)),
            ),
            ours=partial(
                clx_side,
                benchmark(count, experiences),
                strategy,
                make=make,
                batch_size=batch_size,
                regularizers=regularizers,
            ),
            limit=limit,
        )
        for count in samples
    )
    return replace(whole, short=short)


def er(model: Model, *, replay_size: int = 64) -> ER:
    """Experience replay from a reservoir of 500."""
    return ER(model, Reservoir(500, SEED, offer="first_epoch"), replay_size=replay_size)


def agem(model: Model) -> AGEM:
    """With a memory batch of 256."""
    return AGEM(model, EqualRandom(SHARED, SEED, per_class=None), reference_size=256)


def icarl(model: Model) -> ICaRL:
    """With exemplars by herding."""
    return ICaRL(model, Herding(SHARED, SEED, per_class=None))


def springs(name: str) -> Callable[[], dict[str, Regularizer]]:
    """A regularizer with its default settings."""
    made: dict[str, Callable[[], Regularizer]] = {
        "lwf": lambda: LwF(1.0, temperature=2.0),
        "ewc_online": lambda: EWCOnline(100.0, decay=1.0, labels="sampled", seed=SEED),
        "si": lambda: SI(0.2, damping=0.1, clip=None, head=True),
    }
    return lambda: {name: made[name]()}


def resnet18() -> Pair:
    """ResNet-18 at 3x32x32 with crop and flip, 3 steps of 32, against the same images as floats without either."""
    data = Synthetic([3, 32, 32], num_classes=10, train_per_class=10, test_per_class=1, noise=32.0, seed=0)
    stream = list(Split(data=data, num_experiences=1, augment=["crop", "flip"]).train)
    x, y = stream[0].transform.eval(stream[0].data.raw), stream[0].data.y

    def steps(model: nn.Module) -> Tensor:
        """Batches that passed each normalisation: the images differ, so the weights do."""
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        return torch.tensor([float(m.num_batches_tracked or 0) for m in norms])

    def bare() -> Work:
        model = ResNet()
        optimizer = SGD(model.parameters())

        def work() -> Tensor:
            for index in torch.randperm(len(x)).split(32):
                optimizer.zero_grad()
                cross_entropy(model(x[index]), y[index]).backward()
                optimizer.step()
            return steps(model)

        return work

    def ours() -> Work:
        model = ResNet()
        train = clx_side(stream, Finetune, make=lambda: model, batch_size=32)

        def work() -> Tensor:
            train()
            return steps(model)

        return work

    return Pair(bare=bare, ours=ours, limit=1.10)


CASES: dict[str, Callable[[], Pair]] = {
    "finetune": lambda: pair(speed_bare.finetune, Finetune, 1.05),
    "er": lambda: pair(speed_bare.er, er, 1.05),
    "lwf": lambda: pair(speed_bare.lwf, Finetune, 1.05, regularizers=springs("lwf")),
    "ewc_online": lambda: pair(speed_bare_springs.ewc_online, Finetune, 1.10, regularizers=springs("ewc_online")),
    "si": lambda: pair(speed_bare_springs.si, Finetune, 1.10, regularizers=springs("si")),
    "agem": lambda: pair(speed_bare.agem, agem, 1.10, experiences=2, capacity=SHARED),
    "icarl": lambda: pair(speed_bare.icarl, icarl, 1.10, capacity=SHARED),
    "online_er": lambda: pair(
        speed_bare.er,
        partial(er, replay_size=10),
        1.15,
        samples=(1500, 100),
        experiences=2,
        batch_size=10,
        replay_size=10,
    ),
    "er_cnn": lambda: pair(speed_bare.er, er, 1.05, samples=(200, 64), experiences=2, make=cnn),
    "resnet18": resnet18,
}
