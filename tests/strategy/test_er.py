"""Experience replay."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from clx.buffer.reservoir import Reservoir
from clx.strategy.er import ER
from clx.strategy.finetune import Finetune
from clx.types import Batch, Clock, Objective

LN3 = math.log(3)
IDENTITY = [[1.0, 0.0], [0.0, 1.0]]


def batch(x: list[list[float]], y: list[int]) -> Batch:
    raw = torch.tensor(x)
    return Batch(raw, torch.tensor(y), torch.zeros(len(y), dtype=torch.int64), raw)


def reservoir(capacity: int) -> Reservoir:
    return Reservoir(capacity, seed=0, offer="first_epoch")


STREAM = batch([[LN3, 0.0], [0.0, 0.0]], [0, 1])
MEMORY = batch([[0.0, LN3]], [0])


def test_observe_by_hand(make_linear: Any) -> None:
    """Logits = inputs. Stream: -ln 3/4 = 0.287682 and ln 2 = 0.693147; replay, (0, ln 3) of class 0: -ln 1/4 =
    1.386294. Every sample weighs the same: the mean of three is 0.789041. The logits are the stream's."""
    strategy = ER(make_linear(IDENTITY), reservoir(4), replay_size=5)
    strategy.buffer.add(MEMORY)
    objective = strategy.observe(STREAM)
    assert objective.terms.keys() == {"ce"}
    assert objective.terms["ce"].item() == pytest.approx(0.789041, abs=1e-6)
    assert torch.equal(objective.logits, STREAM.x)


@pytest.mark.parametrize(("stored", "replay_size"), [(False, 5), (True, 0)])
def test_nothing_to_replay(stored: bool, replay_size: int, make_linear: Any) -> None:
    """The mean of the stream alone: (0.287682 + 0.693147) / 2 = 0.490415."""
    strategy = ER(make_linear(IDENTITY), reservoir(4), replay_size=replay_size)
    if stored:
        strategy.buffer.add(MEMORY)
    assert strategy.observe(STREAM).terms["ce"].item() == pytest.approx(0.490415, abs=1e-6)


@pytest.mark.parametrize("replay_size", [1, 3])
def test_replay_size_samples_are_drawn(replay_size: int, make_linear: Any) -> None:
    """All inputs are 0, so every sample's gradient of its own class's bias is -1/2, of the other's +1/2. Two of class 0
    in the stream and r of class 1 from the buffer: ((r - 2) / 2) / (2 + r)."""
    strategy = ER(make_linear(IDENTITY), reservoir(8), replay_size=replay_size)
    strategy.buffer.add(batch([[0.0, 0.0]] * 6, [1] * 6))
    strategy.observe(batch([[0.0, 0.0]] * 2, [0, 0])).terms["ce"].backward()
    expected = (replay_size - 2) / 2 / (replay_size + 2)
    assert strategy.model.classifier.classifier.bias.grad[0].item() == pytest.approx(expected, abs=1e-6)


def test_the_stream_is_stored_after_the_step(make_linear: Any) -> None:
    """In its first epoch alone; observing stores nothing."""
    strategy = ER(make_linear(IDENTITY), reservoir(8), replay_size=2)
    strategy.observe(STREAM)
    assert len(strategy.buffer) == 0
    strategy.after_step(STREAM, Objective({}))
    again = batch([[1.0, 1.0]], [0])
    again.clock = Clock(epoch=1)
    strategy.after_step(again, Objective({}))
    assert strategy.buffer.samples().raw.tolist() == STREAM.x.tolist()


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_capacity_0_and_replay_size_0_are_finetune(head: str, train_tiny: Any) -> None:
    plain = train_tiny(Finetune, head)
    for capacity, replay_size in ((0, 4), (6, 0)):
        neutral = train_tiny(lambda model, c=capacity, r=replay_size: ER(model, reservoir(c), replay_size=r), head)
        torch.testing.assert_close(neutral, plain, rtol=0, atol=0)
    replayed = train_tiny(lambda model: ER(model, reservoir(6), replay_size=4), head)
    assert not torch.equal(replayed["body.1.weight"], plain["body.1.weight"])


def test_what_is_refused(make_linear: Any, make_benchmark: Any) -> None:
    with pytest.raises(ValueError, match=r"^replay_size -1 < 0"):
        ER(make_linear(IDENTITY), reservoir(4), replay_size=-1)
    assert ER(make_linear(IDENTITY), reservoir(4), replay_size=1).conflict(make_benchmark()) is None
    reason = ER(make_linear(IDENTITY), None, replay_size=1).conflict(make_benchmark())
    assert reason is not None
    assert reason.endswith("set buffer=reservoir")
