"""Weight aligning."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from clx.buffer.herding import Herding
from clx.strategy.ft_exemplars import FTExemplars
from clx.strategy.wa import WA
from clx.types import Batch, Experience, Objective

LN3 = math.log(3)
OPTIONS = {"temperature": 2.0, "distill": True, "align": True, "nonnegative": False}


def wa(model: Any, capacity: int = 6, **options: Any) -> WA:
    return WA(model, Herding(capacity, seed=0, per_class=None), **OPTIONS | options)


def batch(x: list[list[float]], y: list[int]) -> Batch:
    return Batch(torch.tensor(x), torch.tensor(y), torch.zeros(len(y), dtype=torch.int64))


def test_loss_by_hand(make_linear: Any) -> None:
    """Before: ln 2 of two classes. Then the teacher says (0, 2 ln 3), the student (2 ln 3, 0, 0) of a sample of class
    2: ln(11) / 3 = 0.799298, and with a share of 2/3, KL((1/4, 3/4) || (3/4, 1/4)) = 1/2 ln 3: 0.366204."""
    strategy = wa(make_linear([[0.0], [2 * LN3]]))
    strategy.adaptation(Experience(index=0, classes=(0, 1)))
    first = strategy.observe(batch([[0.0]], [1])).terms
    assert first.keys() == {"ce"}
    assert first["ce"].item() == pytest.approx(math.log(2), abs=1e-6)
    strategy.adaptation(Experience(index=1, classes=(2,), previous_classes=(0, 1)))
    strategy.model.set_rows([[2 * LN3], [0.0], [0.0]])
    terms = strategy.observe(batch([[1.0]], [2])).terms
    assert terms["ce"].item() == pytest.approx(0.799298, abs=1e-6)
    assert terms["distillation"].item() == pytest.approx(0.366204, abs=1e-6)


def test_new_rows_are_aligned_when_an_experience_is_over(make_linear: Any, make_experience: Any) -> None:
    """Old rows of length 5 and 1: mean 3. The new one, of length 6, is halved; its bias stays."""
    strategy = wa(make_linear([[3.0, 4.0], [1.0, 0.0]]))
    strategy.adaptation(make_experience(0, {0: 2, 1: 2}))
    strategy.after_task(make_experience(0, {0: 2, 1: 2}))
    assert strategy.rows.tolist() == [[3.0, 4.0], [1.0, 0.0]]
    second = Experience(index=1, classes=(2,), previous_classes=(0, 1), train=make_experience(1, {2: 3}).train)
    strategy.adaptation(second)
    strategy.model.set_rows([[3.0, 4.0], [1.0, 0.0], [0.0, 6.0]])
    with torch.no_grad():
        strategy.model.classifier.classifier.bias.fill_(0.5)
    strategy.after_task(second)
    assert strategy.rows.tolist() == [[3.0, 4.0], [1.0, 0.0], [0.0, 3.0]]
    assert strategy.model.classifier.classifier.bias.tolist() == [0.5] * 3
    assert strategy.buffer.samples().y.unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize(("nonnegative", "expected"), [(True, [[0.0, 4.0]]), (False, [[-3.0, 4.0]])])
def test_weights_are_cut_off_after_a_step(nonnegative: bool, expected: Any, make_linear: Any) -> None:
    strategy = wa(make_linear([[-3.0, 4.0]]), nonnegative=nonnegative)
    strategy.after_step(batch([[0.0, 0.0]], [0]), Objective({}))
    assert strategy.rows.tolist() == expected


def test_with_both_parts_off_it_is_ft_exemplars(train_tiny: Any) -> None:
    plain = train_tiny(lambda model: FTExemplars(model, Herding(6, seed=0, per_class=None)))
    neutral = train_tiny(lambda model: wa(model, distill=False, align=False))
    torch.testing.assert_close(neutral, plain, rtol=0, atol=0)
    for part in ("distill", "align"):
        other = train_tiny(lambda model, part=part: wa(model, **{"distill": False, "align": False, part: True}))
        assert not torch.equal(other["classifier.classifier.weight"], plain["classifier.classifier.weight"]), part


def test_what_is_refused(make_model: Any, make_benchmark: Any) -> None:
    with pytest.raises(ValueError, match=r"^temperature 0.0 is not above 0"):
        wa(make_model(), temperature=0.0)
    assert wa(make_model()).conflict(make_benchmark()) is None
    assert "set model/head=incremental" in str(wa(make_model("cosine")).conflict(make_benchmark()))
    assert "buffer=herding" in str(WA(make_model(), None, **OPTIONS).conflict(make_benchmark()))
    domain = wa(make_model()).conflict(make_benchmark(scenario="domain_incremental"))
    assert domain is not None
