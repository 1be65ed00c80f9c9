"""Continual prototype evolution."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from clx.buffer.class_balanced import ClassBalanced
from clx.loop.trainer import Trainer
from clx.model.pnn import PNN
from clx.strategy.cope import CoPE
from clx.types import Batch, Clock, Experience, Objective

LN2 = math.log(2)
PAPER = {"replay_size": 4, "T": 1 / LN2, "p_momentum": 0.5, "embedding_dim": 2}
FIRST = Experience(index=0, classes=(0, 1))


def batch(x: list[list[float]], y: list[int], step: int = 0) -> Batch:
    raw = torch.tensor(x)
    return Batch(raw, torch.tensor(y), torch.zeros(len(y)).long(), raw, clock=Clock(step=step))


def cope(model: Any, capacity: int = 8, **options: Any) -> CoPE:
    return CoPE(model, ClassBalanced(capacity, 0, offer="first_epoch"), **PAPER | options)


@pytest.fixture
def plane(make_linear: Any) -> CoPE:
    """Its embedding is its input, at length one."""
    strategy = cope(make_linear([[0.0, 0.0], [0.0, 0.0]]))
    strategy.embedding = nn.Identity()
    strategy.adaptation(FIRST)
    return strategy


def test_a_new_class_starts_at_its_mean(plane: CoPE) -> None:
    """(2, 0) and (0, 5) of class 0: (1, 1) / sqrt 2. Class 1 is not there, scores -1000 and keeps nothing."""
    plane.after_step(batch([[2.0, 0.0], [0.0, 5.0]], [0, 0]), Objective({}))
    torch.testing.assert_close(plane.prototypes, torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 0.0]]))
    assert plane.known.tolist() == [True, False]
    scores = plane.inference(torch.tensor([[3.0, 0.0]]))
    torch.testing.assert_close(scores, torch.tensor([[0.5**0.5, -1000.0]]))


def test_prototypes_follow_stream_and_memory(plane: CoPE) -> None:
    """Class 0 from (1, 0), stored; then (0, 1) of class 0 comes. The step's mean, the stored one counted, is (.5, .5),
    so .5 (1, 0) + .5 (.5, .5) = (.75, .25), of length sqrt .625. Class 1, in no batch, stays."""
    plane.after_step(batch([[1.0, 0.0]], [0]), Objective({}))
    plane.prototypes[1], plane.known[1] = torch.tensor([0.6, 0.8]), True
    plane.after_step(batch([[0.0, 1.0]], [0], step=1), Objective({}))
    expected = torch.tensor([[0.75 / 0.625**0.5, 0.25 / 0.625**0.5], [0.6, 0.8]])
    torch.testing.assert_close(plane.prototypes, expected)


def test_observe_by_hand(plane: CoPE) -> None:
    """Both classes are new, so their prototypes are where their samples are: the loss's own example, 2 ln 1.5."""
    objective = plane.observe(batch([[4.0, 0.0], [0.0, 3.0]], [0, 1]))
    assert {name: value.item() for name, value in objective.terms.items()} == pytest.approx({"ppp": 2 * math.log(1.5)})
    torch.testing.assert_close(objective.logits, torch.eye(2))
    assert plane.known.tolist() == [False, False]


def test_the_same_memory_for_loss_and_prototypes(plane: CoPE) -> None:
    """However often it is asked for; another one at another step."""
    plane.replay_size = 3
    for number in range(8):
        plane.buffer.add(batch([[float(number), 1.0]], [0]))
    first, again, later = (plane.memory(Clock(step=step)).x.tolist() for step in (5, 5, 6))
    assert first == again != later
    assert len(first) == 3


def test_it_learns_and_its_head_is_not_used(make_model: Any, make_benchmark: Any) -> None:
    strategy = cope(make_model(), capacity=24, T=0.5, p_momentum=0.9, embedding_dim=8)
    trainer = Trainer(strategy, partial(torch.optim.SGD, lr=0.05), device="cpu", epochs=5, batch_size=8)
    benchmark = make_benchmark()
    before = strategy.embedding.weight.clone()
    trainer.train(benchmark.train, benchmark.test)
    assert not torch.equal(strategy.embedding.weight, before)
    assert trainer.matrix.plain[-1].mean() > 0.4
    torch.testing.assert_close(strategy.prototypes.norm(dim=1), torch.ones(6))


def test_what_is_refused(make_model: Any, make_benchmark: Any) -> None:
    for key, value in {"replay_size": -1, "T": 0, "p_momentum": 1, "embedding_dim": 0}.items():
        with pytest.raises(ValueError, match=f"^{key} {value}"):
            cope(make_model(), **{key: value})
    assert "depend on the task" in str(cope(PNN()).conflict(make_benchmark()))
    assert str(CoPE(make_model(), None, **PAPER).conflict(make_benchmark())).endswith("set buffer=class_balanced")
