"""Maximally interfered retrieval."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clx.buffer.reservoir import Reservoir
from clx.model.base import Model
from clx.strategy.er import ER
from clx.strategy.finetune import Finetune
from clx.strategy.mir import MIR
from clx.types import Batch, Experience, Objective

ZEROS = [[0.0, 0.0], [0.0, 0.0]]
LN2 = math.log(2)


def batch(x: Tensor, y: list[int]) -> Batch:
    return Batch(x, torch.tensor(y), torch.zeros(len(y), dtype=torch.int64), x)


def reservoir(capacity: int) -> Reservoir:
    return Reservoir(capacity, seed=0, offer="first_epoch")


STREAM = batch(torch.tensor([[1.0, 0.0]]), [0])
STORED = batch(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]), [1, 1, 0])


def mir(model: Any, capacity: int = 8, *, replay_size: int = 2, C: int = 3, virtual_lr: float = 1.0) -> MIR:
    return MIR(model, reservoir(capacity), replay_size=replay_size, C=C, virtual_lr=virtual_lr)


def test_interference_by_hand(make_linear: Any) -> None:
    """Zero weights: p = (1/2, 1/2), every loss ln 2. A step of length 1 on (1, 0) of class 0 makes the rows (.5, 0) and
    (-.5, 0) and the biases .5, -.5. Then (1, 0) scores 1, -1: class 1 loses ln(1 + e^2); (0, 1) scores .5, -.5: class
    1 loses ln(1 + e); (2, 0) scores 1.5, -1.5: class 0 loses ln(1 + e^-3)."""
    strategy = mir(make_linear(ZEROS))
    after = [math.log(1 + math.exp(2)), math.log(1 + math.e), math.log(1 + math.exp(-3))]
    found = strategy.interference(STREAM, STORED)
    torch.testing.assert_close(found, torch.tensor(after) - LN2)
    assert [p.abs().sum().item() for p in strategy.model.parameters()] == [0, 0]


@pytest.mark.parametrize(("replay_size", "C", "wanted"), [(2, 3, [0, 1]), (1, 3, [0]), (0, 3, []), (3, 3, [0, 1, 2])])
def test_the_most_interfered_are_replayed(replay_size: int, C: int, wanted: list[int], make_linear: Any) -> None:
    strategy = mir(make_linear(ZEROS), replay_size=replay_size, C=C)
    strategy.after_step(STORED, Objective({}))
    found = strategy.retrieve(STREAM)
    assert sorted(found.x.tolist()) == sorted(STORED.x[wanted].tolist())


def test_observe_by_hand(make_linear: Any) -> None:
    """Rows that double the inputs: the incoming (1, 0) of class 0 loses ln(1 + e^-2), the retrieved (1, 0) of class 1
    ln(1 + e^2): their mean."""
    strategy = mir(make_linear([[2.0, 0.0], [0.0, 2.0]]), replay_size=1, virtual_lr=0.01)
    strategy.after_step(STORED, Objective({}))
    objective = strategy.observe(STREAM)
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2
    assert objective.terms["ce"].item() == pytest.approx(expected, abs=1e-6)
    assert objective.logits.tolist() == [[2.0, 0.0]]


class Normalised(Model):
    """A layer, batch normalisation, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim = 3
        self.body = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.classifier = nn.Linear(3, 2)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)


def test_interference_is_that_of_a_real_step() -> None:
    """Of a copy, stepped by SGD; and the net that is asked stays as it is, running statistics too."""
    torch.manual_seed(0)
    model = Normalised()
    stream, candidates = batch(torch.randn(6, 2), [0, 1, 0, 1, 1, 1]), batch(torch.randn(4, 2), [0, 0, 1, 1])
    stepped = copy.deepcopy(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = mir(model, virtual_lr=0.3).interference(stream, candidates)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    losses = [cross_entropy(stepped(candidates.x), candidates.y, reduction="none")]
    cross_entropy(stepped(stream.x), stream.y).backward()
    torch.optim.SGD(stepped.parameters(), lr=0.3).step()
    losses.append(cross_entropy(stepped(candidates.x), candidates.y, reduction="none"))
    torch.testing.assert_close(found, (losses[1] - losses[0]).detach())


def test_a_head_that_the_stream_does_not_use(make_model: Any) -> None:
    """Task 0's head gets no gradient from task 1: the step changes the body alone."""
    model = make_model("multi_head")
    strategy = mir(model)
    for task, classes in enumerate([(0, 1), (2, 3)]):
        strategy.adaptation(Experience(index=task, classes=classes, classes_by_task={task: classes}))
    x = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    stream, old = batch(x, [2, 3]), batch(x, [0, 1])
    stream.t = torch.ones(2, dtype=torch.int64)
    assert torch.isfinite(strategy.interference(stream, old)).all()


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_what_it_reduces_to(head: str, train_tiny: Any) -> None:
    plain = train_tiny(Finetune, head)
    er = train_tiny(lambda model: ER(model, reservoir(6), replay_size=4), head)
    for capacity, c, wanted in ((0, 9, plain), (6, 4, er), (6, 1, er)):
        neutral = train_tiny(lambda m, n=capacity, c=c: mir(m, n, replay_size=4, C=c, virtual_lr=0.1), head)
        torch.testing.assert_close(neutral, wanted, rtol=0, atol=0)
    chosen = train_tiny(lambda model: mir(model, 6, replay_size=2, C=6, virtual_lr=0.1), head)
    assert not torch.equal(chosen["body.1.weight"], er["body.1.weight"])


def test_what_is_refused(make_linear: Any) -> None:
    with pytest.raises(ValueError, match=r"^C 0 < 1"):
        mir(make_linear(ZEROS), C=0)
    with pytest.raises(ValueError, match=r"^virtual_lr 0 <= 0"):
        mir(make_linear(ZEROS), virtual_lr=0)
