"""Greedy sampler and dumb learner."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch

from clx.buffer.greedy_balanced import GreedyBalanced
from clx.loop.trainer import Trainer
from clx.strategy.gdumb import GDumb, warm_restarts
from clx.types import Batch

LN3 = math.log(3)
PAPER = {"epochs": 3, "batch_size": 4, "maxlr": 0.05, "minlr": 0.0005, "weight_decay": 1e-6, "clip": 10.0,
         "cutmix_alpha": 1.0, "cutmix_prob": 0.0}  # fmt: skip


def gdumb(model: Any, capacity: int = 6, **options: Any) -> GDumb:
    return GDumb(model, GreedyBalanced(capacity, 0, offer="first_epoch"), **PAPER | options)


def test_the_learning_rate_by_hand() -> None:
    """Warm-up 0.1; cycles of 1, 2 and 4 epochs, each from 1: half-way it is 1/2, a quarter of the way (1 + sqrt
    1/2) / 2. With least 0.2: 0.2 + 0.8 times that."""
    quarter, three = (1 + math.sqrt(0.5)) / 2, (1 - math.sqrt(0.5)) / 2
    rates = [0.1, 1, 1, 0.5, 1, quarter, 0.5, three, 1]
    assert [warm_restarts(epoch, 0.0) for epoch in range(9)] == pytest.approx(rates)
    assert warm_restarts(3, 0.2) == pytest.approx(0.6)


def test_the_phase_is_the_memory(make_model: Any, make_benchmark: Any) -> None:
    """Balanced, with an optimizer and a schedule of its own; and it starts from the same untrained weights."""
    strategy, stream = gdumb(make_model()), make_benchmark().train
    trainer = Trainer(strategy, partial(torch.optim.SGD, lr=9.0), device="cpu", epochs=99)
    trainer.train(stream[:1])
    trained = strategy.model.body[1].weight.clone()
    trainer.grow(stream[1])
    (phase,) = strategy.phases(stream[1])
    assert sorted(Counter(phase.data.y.tolist()).values()) == [1, 1, 2, 2]
    assert (phase.epochs, phase.batch_size) == (3, 4)
    start = strategy.model.body[1].weight
    assert torch.equal(start, make_model().body[1].weight)
    assert not torch.equal(start, trained)
    assert strategy.model.classifier.classifier.weight.shape == (4, 8)
    optimizer = phase.optimizer(strategy.get_parameters(stream[1]))
    rates = []
    scheduler = phase.scheduler(optimizer)
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.005, 0.05, 0.05, 0.0005 + 0.0495 / 2])


def test_the_stream_itself_is_not_trained_on(make_model: Any, make_benchmark: Any) -> None:
    """The same memory, the same weights, whatever the rest of the data and the run's own optimizer are."""
    ends = []
    for count, lr in ((8, 0.1), (8, 9.0), (4, 0.1)):
        strategy = gdumb(make_model(), capacity=6)
        sgd = partial(torch.optim.SGD, lr=lr)
        Trainer(strategy, sgd, device="cpu").train(make_benchmark(samples_per_class=count).train[:1])
        ends.append(strategy.model.state_dict())
    for other in ends[1:]:
        assert all(torch.equal(value, other[name]) for name, value in ends[0].items())


def test_cutmix_by_hand(make_linear: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits are the pixels, (ln 3, 0) and (0, 0); each has half of the other, which here looks the same. Classes 0 and
    1: -ln 3/4 and ln 2 for their own, -ln 1/4 and ln 2 for the other's: half of each."""
    x = torch.tensor([[LN3, 0.0], [0.0, 0.0]])
    monkeypatch.setattr("clx.strategy.gdumb.cutmix", lambda x, alpha: (x, torch.tensor([1, 0]), 0.5))
    strategy = gdumb(make_linear([[1.0, 0.0], [0.0, 1.0]]), cutmix_prob=1.0)
    objective = strategy.observe(Batch(x, torch.tensor([0, 1]), torch.zeros(2).long()))
    own, other = (math.log(4 / 3) + math.log(2)) / 2, (math.log(4) + math.log(2)) / 2
    assert objective.terms["ce"].item() == pytest.approx((own + other) / 2, abs=1e-6)


def test_gradients_are_clipped(make_linear: Any) -> None:
    """(300, 0) at zero weights: a norm of 212; then 1, in the same direction."""
    strategy = gdumb(make_linear([[0.0, 0.0], [0.0, 0.0]]), clip=1.0)
    samples = Batch(torch.tensor([[300.0, 0.0]]), torch.tensor([0]), torch.zeros(1).long())
    strategy.observe(samples).terms["ce"].backward()
    before = torch.cat([p.grad.flatten() for p in strategy.model.parameters()])
    strategy.after_backward(samples)
    after = torch.cat([p.grad.flatten() for p in strategy.model.parameters()])
    torch.testing.assert_close(after, before / before.norm())


def test_capacity_of_the_stream_is_joint(make_model: Any, make_benchmark: Any) -> None:
    """After the last experience all 48 samples are in the memory, eight of each class."""
    strategy, benchmark = gdumb(make_model(), capacity=48), make_benchmark()
    Trainer(strategy, device="cpu").train(benchmark.train)
    assert Counter(strategy.buffer.samples().y.tolist()) == dict.fromkeys(range(6), 8)


def test_what_is_refused(make_model: Any, make_benchmark: Any) -> None:
    for key, value in {
        "epochs": 0,
        "batch_size": 0,
        "minlr": 0.1,
        "clip": 0,
        "cutmix_alpha": 0,
        "cutmix_prob": 2,
    }.items():
        with pytest.raises(ValueError, match=rf"{key} {value}\b"):
            gdumb(make_model(), **{key: value})
    assert str(GDumb(make_model(), None, **PAPER).conflict(make_benchmark())).endswith("set buffer=greedy_balanced")
