"""Experience replay with asymmetric metric learning."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from clx.buffer.reservoir import Reservoir
from clx.loop.trainer import Trainer
from clx.model.pnn import PNN
from clx.strategy.er_aml import ERAML
from clx.strategy.finetune import Finetune
from clx.types import Batch, Clock, Objective

RIGHT, UP, FAR = [3.0, 0.0], [0.0, 3.0], [-3.0, -3.0]
LN2 = math.log(2)


def reservoir(capacity: int) -> Reservoir:
    return Reservoir(capacity, seed=0, offer="first_epoch")


def batch(x: list[list[float]], y: list[int], experience: int = 1) -> Batch:
    raw = torch.tensor(x)
    return Batch(raw, torch.tensor(y), torch.zeros(len(y)).long(), raw, clock=Clock(experience))


def aml(model: Any, capacity: int = 8, **options: Any) -> ERAML:
    return ERAML(model, reservoir(capacity), **{"replay_size": 8, "temperature": 1 / LN2} | options)


def test_terms_by_hand(make_linear: Any) -> None:
    """Features are inputs, at any length. Whichever positive and negative the right one of class 2 and the
    upper one of class 3 draw, they lie there: right, up, up, right; class 0 is not in the batch and not drawn. At
    temperature 1/ln 2 what is alike weighs 2, the rest 1: both positives have 2/6, so ln 3. Scores are all 0: ln 4."""
    strategy = aml(make_linear([[0.0, 0.0]] * 4))
    strategy.after_step(batch([RIGHT, UP, FAR], [2, 3, 0]), Objective({}))
    for _ in range(5):
        objective = strategy.observe(batch([RIGHT, UP], [2, 3]))
        terms = {name: value.item() for name, value in objective.terms.items()}
        assert terms == pytest.approx({"contrast": math.log(3), "replay": math.log(4)}, abs=1e-6)
        assert objective.logits.tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize(("x", "y"), [([RIGHT, UP], [2, 2]), ([RIGHT, UP], [2, 3])])
def test_without_a_positive_or_a_negative_there_is_nothing_to_compare(x: Any, y: Any, make_linear: Any) -> None:
    """One class in the batch: no negative. Two, one sample of each and none stored: no positive."""
    strategy = aml(make_linear([[0.0, 0.0]] * 4))
    objective = strategy.observe(batch(x, y))
    assert {name: value.item() for name, value in objective.terms.items()} == {"contrast": 0}


def test_every_valid_sample_may_be_drawn(make_linear: Any) -> None:
    strategy = aml(make_linear([[0.0, 0.0]] * 4))
    valid = torch.tensor([[True, False, True, True], [False, True, False, False]])
    drawn = torch.stack([strategy.pick(valid) for _ in range(60)])
    assert set(drawn[:, 0].tolist()) == {0, 2, 3}
    assert set(drawn[:, 1].tolist()) == {1}


def test_the_stream_does_not_train_the_classifier(make_model: Any, make_benchmark: Any) -> None:
    """Without replay the head stays as it was after the first experience, and the body does not."""
    strategy = aml(make_model(), capacity=0, temperature=0.2)
    trainer, stream = Trainer(strategy, device="cpu", batch_size=8), make_benchmark().train
    trainer.train(stream[:1])
    before = {name: value.clone() for name, value in strategy.model.state_dict().items()}
    trainer.train(stream[1:2])
    after = strategy.model.state_dict()
    assert torch.equal(after["classifier.classifier.weight"][:2], before["classifier.classifier.weight"])
    assert not torch.equal(after["body.1.weight"], before["body.1.weight"])


def test_one_experience_is_finetune(make_benchmark: Any, make_model: Any) -> None:
    ends = []
    for make in (aml, Finetune):
        strategy = make(make_model(drop_rate=0.5))
        Trainer(strategy, epochs=2, batch_size=5, device="cpu").train(make_benchmark(accumulate="joint").train)
        ends.append(strategy.model.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_what_is_refused(make_linear: Any, make_benchmark: Any) -> None:
    model = make_linear([[0.0, 0.0]] * 4)
    with pytest.raises(ValueError, match=r"^replay_size -1 < 0"):
        aml(model, replay_size=-1)
    with pytest.raises(ValueError, match=r"^temperature 0 <= 0"):
        aml(model, temperature=0)
    assert "depend on the task" in str(aml(PNN()).conflict(make_benchmark()))
    assert str(ERAML(model, None, replay_size=1, temperature=1).conflict(make_benchmark())).endswith("buffer=reservoir")
