"""Experience replay with asymmetric cross-entropy."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch

from clx.buffer.reservoir import Reservoir
from clx.loop.trainer import Trainer
from clx.strategy.er_ace import ERACE
from clx.strategy.finetune import Finetune
from clx.types import Batch, Clock, Experience, Objective

ROWS = [[0.0], [math.log(2)], [math.log(3)], [math.log(4)]]  # at x = 1 the scores' exp: 1, 2 | 3, 4


def reservoir(capacity: int) -> Reservoir:
    return Reservoir(capacity, seed=0, offer="first_epoch")


def batch(y: list[int], experience: int) -> Batch:
    raw = torch.ones(len(y), 1)
    return Batch(raw, torch.tensor(y), torch.zeros(len(y)).long(), raw, clock=Clock(experience))


def second(make_linear: Any, capacity: int = 4) -> ERACE:
    """Classes 0 and 1 came in the first experience, one of each is stored; 2 and 3 are to come."""
    strategy = ERACE(make_linear(ROWS[:2]), reservoir(capacity), replay_size=2)
    strategy.adaptation(Experience(index=0, classes=(0, 1)))
    strategy.after_step(batch([0, 1], 0), Objective({}))
    strategy.adaptation(Experience(index=1, classes=(2, 3), previous_classes=(0, 1)))
    strategy.model.set_rows(ROWS)
    return strategy


def terms(strategy: ERACE, incoming: Batch) -> dict[str, float]:
    return {name: value.item() for name, value in strategy.observe(incoming).terms.items()}


def test_terms_by_hand(make_linear: Any) -> None:
    """Replay of classes 0 and 1 over all four: (ln 10/1 + ln 10/2) / 2. Incoming, of class 2: class 3 never came, so
    both compete: ln 7/3; once 3 has come, class 2 is alone: 0; with both in the batch, (ln 7/3 + ln 7/4) / 2."""
    strategy = second(make_linear)
    replay = (math.log(10) + math.log(5)) / 2
    assert terms(strategy, batch([2], 1)) == pytest.approx({"ce": math.log(7 / 3), "replay": replay}, abs=1e-6)
    strategy.buffer.capacity = 0  # nothing more is stored
    strategy.after_step(batch([3, 2], 1), Objective({}))
    assert terms(strategy, batch([2], 1)) == pytest.approx({"ce": 0, "replay": replay}, abs=1e-6)
    both = (math.log(7 / 3) + math.log(7 / 4)) / 2
    assert terms(strategy, batch([2, 3], 1)) == pytest.approx({"ce": both, "replay": replay}, abs=1e-6)


def test_old_classes_get_no_gradient_from_the_stream(make_linear: Any) -> None:
    strategy = second(make_linear, capacity=0)
    strategy.observe(batch([2, 3], 1)).terms["ce"].backward()
    gradient = strategy.model.classifier.classifier.bias.grad
    assert gradient[:2].tolist() == [0, 0]
    torch.testing.assert_close(gradient[2:], torch.tensor([3 / 7 - 1 / 2, 4 / 7 - 1 / 2]))


def test_the_first_experience_is_cross_entropy_alone(make_linear: Any) -> None:
    """Over both classes, although one alone is in the batch and samples are stored: ln 3/1."""
    strategy = ERACE(make_linear(ROWS[:2]), reservoir(4), replay_size=2)
    strategy.adaptation(Experience(index=0, classes=(0, 1)))
    strategy.after_step(batch([0, 1], 0), Objective({}))
    assert terms(strategy, batch([0], 0)) == pytest.approx({"ce": math.log(3)}, abs=1e-6)


def test_one_experience_is_finetune(make_benchmark: Any, make_model: Any) -> None:
    ends = []
    for make in (lambda model: ERACE(model, reservoir(6), replay_size=4), Finetune):
        strategy = make(make_model(drop_rate=0.5))
        sgd = partial(torch.optim.SGD, lr=0.1)
        Trainer(strategy, sgd, epochs=2, batch_size=5, device="cpu").train(make_benchmark(accumulate="joint").train)
        ends.append(strategy.model.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_replay_and_mask_make_a_difference(head: str, train_tiny: Any) -> None:
    plain = train_tiny(Finetune, head)
    masked = train_tiny(lambda model: ERACE(model, reservoir(0), replay_size=4), head)
    replayed = train_tiny(lambda model: ERACE(model, reservoir(6), replay_size=4), head)
    assert not torch.equal(plain["body.1.weight"], masked["body.1.weight"])
    assert not torch.equal(masked["body.1.weight"], replayed["body.1.weight"])


def test_what_is_refused(make_linear: Any, make_benchmark: Any) -> None:
    with pytest.raises(ValueError, match=r"^replay_size -1 < 0"):
        ERACE(make_linear(ROWS), reservoir(4), replay_size=-1)
    reason = ERACE(make_linear(ROWS), None, replay_size=1).conflict(make_benchmark())
    assert reason is not None
    assert reason.endswith("set buffer=reservoir")
