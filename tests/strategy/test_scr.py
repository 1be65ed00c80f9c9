"""Supervised contrastive replay."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.buffer.reservoir import Reservoir
from clx.data.transform import ToInput
from clx.loop.trainer import Trainer
from clx.model.base import Model
from clx.model.head.ncm import NCMClassifier
from clx.model.pnn import PNN
from clx.strategy.scr import SCR
from clx.types import Batch, Experience, Objective

LN2, LN3 = math.log(2), math.log(3)
PAPER = {"replay_size": 4, "temperature": 1 / LN2, "projection_dim": 3, "augment": []}


class Plane(Model):
    """Its features are its inputs, two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim = 2
        self.classifier = NCMClassifier(2)

    def features(self, x: Tensor) -> Tensor:
        return x


def scr(model: Any, capacity: int = 8, **options: Any) -> SCR:
    return SCR(model, Reservoir(capacity, 0, offer="first_epoch"), **PAPER | options)


def batch(x: list[list[float]], y: list[int]) -> Batch:
    raw = torch.tensor(x)
    return Batch(raw, torch.tensor(y), torch.zeros(len(y)).long(), raw)


def contrast(strategy: SCR) -> float:
    """The loss of (2, 0) of class 0 and (0, 3) of class 1, not projected, each seen twice."""
    strategy.projection = nn.Identity()
    objective = strategy.observe(batch([[2.0, 0.0], [0.0, 3.0]], [0, 1]))
    assert objective.terms.keys() == {"contrast"}
    assert objective.logits is None
    return objective.terms["contrast"].item()


def test_the_stream_alone_by_hand() -> None:
    """At temperature 1/ln 2 the same direction weighs 2, a right angle 1. Each view has its twin, 2 of 2 + 1 + 1."""
    assert contrast(scr(Plane())) == pytest.approx(LN2, abs=1e-6)


def test_with_the_memory_by_hand() -> None:
    """(1, 0) of class 1 is stored. Class 0: its twin, 2 of 8: ln 4. (0, 3): twin and both stored views, 2, 1, 1 of 6:
    (ln 3 + 2 ln 6) / 3. The stored: twin and both (0, 3), 2, 1, 1 of 8: (ln 4 + 2 ln 8) / 3 = 8/3 ln 2."""
    strategy = scr(Plane())
    strategy.after_step(batch([[1.0, 0.0]], [1]), Objective({}))
    expected = (2 * LN2 + (LN3 + 2 * math.log(6)) / 3 + 8 / 3 * LN2) / 3
    assert contrast(strategy) == pytest.approx(expected, abs=1e-6)


def test_the_nearest_mean_of_the_memory_answers() -> None:
    """Class 0 at (2, 0) and (0, 5): directions' mean (.5, .5); class 2 at (-1, 0). Class 1 has none and never wins."""
    strategy = scr(Plane())
    experience = Experience(index=0, classes=(0, 1, 2))
    strategy.adaptation(experience)
    strategy.after_step(batch([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0]], [0, 0, 2]), Objective({}))
    strategy.after_task(experience)
    head = strategy.model.classifier
    torch.testing.assert_close(head.class_means, torch.tensor([[0.5, 0.5], [0.0, 0.0], [-1.0, 0.0]]))
    scores = strategy.inference(torch.tensor([[1.0, 1.0], [-3.0, 1.0]]))
    assert scores.argmax(1).tolist() == [0, 2]
    assert scores[:, 1].tolist() == [-1000, -1000]


def test_the_second_view_is_augmented() -> None:
    """With crop each image is shifted by a draw of its own; without any change it is the input again."""
    raw = torch.arange(1, 17, dtype=torch.uint8).view(1, 1, 4, 4).expand(50, 1, 4, 4)
    to_input = ToInput((1, 4, 4), mean=[0.0], std=[1 / 255])  # as it is
    samples = Batch(to_input(raw), torch.zeros(50).long(), torch.zeros(50).long(), raw)
    for augment, same in (([], 50), (["crop"], 0)):
        strategy = scr(Plane(), augment=augment)
        strategy.train_transform = to_input
        views = strategy.second_view(samples)
        assert views.shape == (50, 1, 4, 4)
        equal = (views == samples.x).flatten(1).all(1).sum().item()
        assert equal == same if same else equal < 10


def test_body_and_projection_are_trained(make_model: Any, make_benchmark: Any) -> None:
    model = make_model()
    model.classifier = NCMClassifier(model.feature_dim)
    strategy = scr(model, temperature=0.2)
    before = {name: value.clone() for name, value in strategy.named_parameters()}
    trainer, benchmark = Trainer(strategy, partial(torch.optim.SGD, lr=0.1), device="cpu", epochs=5), make_benchmark()
    trainer.train(benchmark.train, benchmark.test)
    moved = {name for name, value in strategy.named_parameters() if not torch.equal(value, before[name])}
    assert moved == set(before)
    assert trainer.matrix.plain[-1].mean() > 0.5


def test_what_is_refused(make_model: Any, make_benchmark: Any) -> None:
    for key, value in {"replay_size": -1, "temperature": 0, "projection_dim": 0, "augment": ["crops"]}.items():
        with pytest.raises(ValueError, match=f"^{key} "):
            scr(Plane(), **{key: value})
    assert str(scr(make_model()).conflict(make_benchmark())).endswith("set model/head=ncm")
    net = PNN()
    net.classifier = NCMClassifier(net.feature_dim)
    assert "depend on the task" in str(scr(net).conflict(make_benchmark()))
    assert scr(Plane()).conflict(make_benchmark()) is None
    assert str(SCR(Plane(), None, **PAPER).conflict(make_benchmark())).endswith("set buffer=reservoir")
