"""Extended dark experience replay."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from clx.buffer.equal_random import EqualRandom
from clx.buffer.reservoir import Reservoir
from clx.loop.trainer import Trainer
from clx.model.head.linear import LinearClassifier
from clx.strategy.xder import XDER
from clx.types import Batch, Experience

LN3 = math.log(3)
PAPER = {"replay_size": 4, "alpha": 0.5, "beta": 0.25, "gamma": 0.85, "lambd": 0.2, "eta": 0.1, "m": 0.3,
         "simclr_temp": 5.0, "augment": []}  # fmt: skip
FIRST, SECOND = (0, 1), (2, 3)  # and class 4 is still to come


def xder(model: Any, capacity: int = 8, **options: Any) -> XDER:
    return XDER(model, EqualRandom(capacity, 0, per_class=None), **PAPER | options)


def batch(x: list[list[float]], y: list[int]) -> Batch:
    raw = torch.tensor(x)
    return Batch(raw, torch.tensor(y), torch.zeros(len(y)).long(), raw)


@pytest.fixture
def second(make_linear: Any) -> XDER:
    """In its second experience; logits are the inputs."""
    model = make_linear([[0.0] * 5] * 2)
    model.classifier = LinearClassifier(5, num_classes=5, bias=False)
    with torch.no_grad():
        model.classifier.classifier.weight.copy_(torch.eye(5))
    strategy = xder(model)
    strategy.adaptation(Experience(index=0, classes=FIRST))
    strategy.adaptation(Experience(index=1, classes=SECOND, previous_classes=FIRST))
    return strategy


STREAM = batch([[2.0, 0.0, LN3, 0.0, 1.0]], [2])


def terms(strategy: XDER) -> dict[str, float]:
    return {name: value.item() for name, value in strategy.observe(STREAM).terms.items()}


def test_terms_by_hand(second: XDER) -> None:
    """ce of (ln 3, 0): ln 4/3. Stored: (0, ln 3, 0, 0, 2) of class 0 with logits (1, ln 3, 0, 0, 0): dark .5 (1 + 4) /
    5; replay over classes 0 and 1: .25 ln 4. past: shares e^2 and 3 of e^2 + 1 + 3 + 1. future: 1 + .3 - ln 3 of the
    stream and twice, once for each draw, 2 + .3 - ln 3. contrast: the one unused unit is alike in all four views, two
    of each class: ln 3."""
    stored = torch.tensor([[0.0, LN3, 0.0, 0.0, 2.0]])
    zero = torch.zeros(1, dtype=torch.int64)
    logits = torch.tensor([[1.0, LN3, 0.0, 0.0, 0.0]])
    second.buffer.write(zero, raw=stored, y=zero, t=zero, group=zero, logits=logits)
    past = (math.exp(2) - 3) / (math.exp(2) + 5) + 0.3
    expected = {
        "ce": math.log(4 / 3),
        "dark": 0.5,
        "replay": 0.25 * math.log(4),
        "past": 0.1 * past,
        "future": 0.1 * ((1.3 - LN3) + 2 * (2.3 - LN3)) / 3,
        "contrast": 0.2 * LN3,
    }
    assert terms(second) == pytest.approx(expected, abs=1e-6)
    assert second.observe(STREAM).logits.tolist() == STREAM.x[:, :4].tolist()
    assert second.inference(STREAM.x).tolist() == STREAM.x[:, :4].tolist()


def test_nothing_stored_and_parts_switched_off(second: XDER) -> None:
    assert terms(second).keys() == {"ce", "past", "future", "contrast"}
    second.eta = 0.0
    assert terms(second).keys() == {"ce", "contrast"}
    second.lambd = 0.0
    assert terms(second) == pytest.approx({"ce": math.log(4 / 3)})


def test_past_classes_get_no_gradient_from_the_constraint(second: XDER) -> None:
    """Nor from the stream: what is not held by other terms is raised or lowered in the present alone."""
    second.lambd, second.m = 0.0, 0.9
    x = STREAM.x.clone().requires_grad_()
    found = second.observe(Batch(x, STREAM.y, STREAM.t, STREAM.raw)).terms
    (gradient,) = torch.autograd.grad(found["ce"] + found["future"], x)
    assert gradient[0, :2].tolist() == [0, 0]


def test_stored_logits_stay_and_learn_of_later_classes(make_model: Any, make_benchmark: Any) -> None:
    """By their sample: columns of classes up to its own experience as they were when it was stored; the others renewed
    after each experience, and then not above the sample's own class; of a new one that holds for the past."""
    model = make_model()
    model.classifier = LinearClassifier(8, num_classes=6)
    strategy = xder(model, capacity=9)
    trainer, known = Trainer(strategy, device="cpu", epochs=2), {}
    for index, experience in enumerate(make_benchmark().train):
        trainer.train([experience])
        stored, logits = strategy.buffer.samples(), strategy.buffer.rows["logits"]
        assert logits.shape == (9, 6)
        current = strategy.embed(stored, strategy.model)
        for raw, y, row, now in zip(stored.raw, stored.y.tolist(), logits, current, strict=True):
            born, first = known.setdefault(raw.numpy().tobytes(), (index, row.clone()))
            assert torch.equal(row[: 2 * born + 2], first[: 2 * born + 2])
            renewed = slice(2 * index, None) if born < index else slice(2 * index)
            assert bool((row[renewed] <= row[y] + 1e-5).all())
            if born == index:
                torch.testing.assert_close(row[2 * index :], now[2 * index :])
    assert {born for born, _ in known.values()} == {0, 1, 2}
    assert strategy.buffer.samples().y.bincount().tolist() == [2, 2, 2, 1, 1, 1]


def test_what_is_refused(make_model: Any, make_benchmark: Any) -> None:
    model = make_model()
    for key in ("alpha", "beta", "lambd", "eta", "m", "replay_size", "gamma"):
        with pytest.raises(ValueError, match=f"^{key} -1"):
            xder(model, **{key: -1})
    with pytest.raises(ValueError, match="augment crops"):
        xder(model, augment=["crops"])
    assert str(xder(model).conflict(make_benchmark())).endswith("set model/head=linear")
    model.classifier = LinearClassifier(8, num_classes=6)
    assert xder(model).conflict(make_benchmark()) is None
    assert xder(model).conflict(make_benchmark(accumulate="joint")) is None
    assert "accumulate=none" in str(xder(model).conflict(make_benchmark(accumulate="cumulative")))
    reservoir = Reservoir(4, 0, offer="first_epoch")
    for buffer in (None, reservoir):
        assert str(XDER(model, buffer, **PAPER).conflict(make_benchmark())).endswith("set buffer=equal_random")
