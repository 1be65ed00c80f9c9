"""Dark experience replay."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from clx.buffer.herding import Herding
from clx.buffer.reservoir import Reservoir
from clx.model.dynamic import model_adaptation
from clx.model.head.linear import LinearClassifier
from clx.strategy.der import DER
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Objective

LN3 = math.log(3)
IDENTITY = [[1.0, 0.0], [0.0, 1.0]]


def batch(x: list[list[float]], y: list[int]) -> Batch:
    raw = torch.tensor(x)
    return Batch(raw, torch.tensor(y), torch.zeros(len(y), dtype=torch.int64), raw)


def reservoir(capacity: int, offer: Any = "first_epoch") -> Reservoir:
    return Reservoir(capacity, seed=0, offer=offer)


STREAM = batch([[LN3, 0.0], [0.0, 0.0]], [0, 1])
MEMORY = batch([[0.0, 2.0]], [0])


def test_terms_by_hand(make_linear: Any) -> None:
    """Logits = inputs. ce: (-ln 3/4 + ln 2) / 2 = 0.490415. (0, 2) was stored with logits (1, -1): differences -1 and
    3, so 0.5 (1 + 9) / 2 = 2.5."""
    strategy = DER(make_linear(IDENTITY), reservoir(4), alpha=0.5, replay_size=3)
    strategy.after_step(MEMORY, Objective({}, torch.tensor([[1.0, -1.0]])))
    objective = strategy.observe(STREAM)
    terms = {name: value.item() for name, value in objective.terms.items()}
    assert terms == pytest.approx({"ce": 0.490415, "dark": 2.5}, abs=1e-6)
    assert torch.equal(objective.logits, STREAM.x)


def test_the_logits_of_the_training_step_are_stored(make_linear: Any) -> None:
    """And never renewed: with the net as it was the term is 0, with the net doubled it is the mean of the squares:
    (ln 3)^2 / 4 of the four logits (ln 3, 0 | 0, 0)."""
    model = make_linear(IDENTITY)
    strategy = DER(model, reservoir(4), alpha=1.0, replay_size=2)
    strategy.after_step(STREAM, strategy.observe(STREAM))
    assert strategy.observe(STREAM).terms["dark"].item() == 0
    model.set_rows([[2.0, 0.0], [0.0, 2.0]])
    assert strategy.observe(STREAM).terms["dark"].item() == pytest.approx(LN3**2 / 4, abs=1e-6)


def test_classes_that_came_later_are_not_compared(make_linear: Any) -> None:
    """A third class, whatever its scores, leaves the term at 0; a sample stored after that has three logits, and the
    first has two of them still."""
    model = make_linear(IDENTITY)
    strategy = DER(model, reservoir(4), alpha=1.0, replay_size=4)
    strategy.after_step(MEMORY, strategy.observe(MEMORY))
    model_adaptation(model, Experience(index=1, classes=(2,), previous_classes=(0, 1)))
    model.set_rows([*IDENTITY, [5.0, 5.0]])
    objective = strategy.observe(STREAM)
    assert objective.terms["dark"].item() == 0
    strategy.after_step(STREAM, objective)
    stored = strategy.buffer.rows["logits"][:3]
    assert stored.isnan().tolist() == [[False, False, True], [False] * 3, [False] * 3]
    assert strategy.observe(STREAM).terms["dark"].item() == 0


def test_a_fixed_head_is_held_in_all_its_columns(make_linear: Any) -> None:
    """A unit of a class still to come: bias 0 when (0, 2) was stored, 3 now: 9 / 3 columns."""
    model = make_linear(IDENTITY)
    model.classifier = LinearClassifier(2, num_classes=3, bias=True)
    strategy = DER(model, reservoir(4), alpha=1.0, replay_size=4)
    strategy.after_step(MEMORY, strategy.observe(MEMORY))
    with torch.no_grad():
        model.classifier.classifier.bias[2] += 3
    assert strategy.observe(STREAM).terms["dark"].item() == pytest.approx(3.0, abs=1e-5)


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_alpha_0_and_capacity_0_are_finetune(head: str, train_tiny: Any) -> None:
    plain = train_tiny(Finetune, head)
    for capacity, alpha in ((0, 0.5), (6, 0.0)):
        neutral = train_tiny(lambda m, c=capacity, a=alpha: DER(m, reservoir(c), alpha=a, replay_size=4), head)
        torch.testing.assert_close(neutral, plain, rtol=0, atol=0)
    held = train_tiny(lambda model: DER(model, reservoir(6), alpha=0.5, replay_size=4), head)
    assert not torch.equal(held["body.1.weight"], plain["body.1.weight"])


def test_what_is_refused(make_linear: Any, make_benchmark: Any) -> None:
    model = make_linear(IDENTITY)
    with pytest.raises(ValueError, match=r"^alpha -1 < 0"):
        DER(model, reservoir(4), alpha=-1, replay_size=1)
    with pytest.raises(ValueError, match=r"^replay_size -1 < 0"):
        DER(model, reservoir(4), alpha=1, replay_size=-1)
    reasons = {}
    for name, buffer in {
        "good": reservoir(4),
        "none": None,
        "late": reservoir(4, "experience"),
        "herding": Herding(4, 0, per_class=None),
    }.items():
        reasons[name] = str(DER(model, buffer, alpha=1, replay_size=1).conflict(make_benchmark()))
    assert reasons["good"] == "None"
    assert reasons["late"].endswith("set first_epoch or every_epoch")
    assert reasons["none"].endswith(reasons["herding"].rpartition("; ")[2])
    assert reasons["none"].endswith("set buffer=reservoir")
