"""Learning without forgetting for one head over all classes."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from clx.buffer.herding import Herding
from clx.strategy.icarl import ICaRL
from clx.strategy.lwf_mc import LwFMC
from clx.types import Batch, Experience

LN3 = math.log(3)
SECOND = Experience(index=1, classes=(2,), previous_classes=(0, 1))


def loss(strategy: LwFMC, x: float, y: int) -> float:
    batch = Batch(torch.tensor([[x]]), torch.tensor([y]), torch.zeros(1, dtype=torch.int64))
    objective = strategy.observe(batch)
    assert objective.terms.keys() == {"bce"}
    return objective.terms["bce"].item()


def test_the_first_experience_by_hand(make_linear: Any) -> None:
    """Scores (ln 3, 0) of class 0: -ln 3/4 - ln (1 - 1/2) = 0.287682 + 0.693147."""
    strategy = LwFMC(make_linear([[LN3], [0.0]]))
    strategy.adaptation(Experience(index=0, classes=(0, 1)))
    assert loss(strategy, 1.0, 0) == pytest.approx(0.980829, abs=1e-6)


def test_the_second_experience_by_hand(make_linear: Any) -> None:
    """The teacher scores (ln 3, 0), probabilities 3/4 and 1/2; the student (0, ln 3, ln 3), 1/2, 3/4, 3/4, of class 2.

    Class 0: ln 2, whatever the target. Class 1: -1/2 ln 3/4 - 1/2 ln 1/4 = 0.836988. Class 2: -ln 3/4 = 0.287682.
    Of class 0 (a class that came back) the targets are the same but for the last, 0: -ln 1/4 = 1.386294.
    """
    strategy = LwFMC(make_linear([[LN3], [0.0]]))
    strategy.adaptation(SECOND)
    strategy.model.set_rows([[0.0], [LN3], [LN3]])
    assert loss(strategy, 1.0, 2) == pytest.approx(0.693147 + 0.836988 + 0.287682, abs=1e-6)
    assert loss(strategy, 1.0, 0) == pytest.approx(0.693147 + 0.836988 + 1.386294, abs=1e-6)


def test_no_gradient_for_the_teacher_and_no_place_in_the_optimizer(make_linear: Any) -> None:
    strategy = LwFMC(make_linear([[0.0], [LN3]]))
    strategy.adaptation(SECOND)
    assert strategy.train().teacher is not None
    assert not strategy.teacher.training
    strategy.observe(Batch(torch.ones(1, 1), torch.tensor([2]), torch.tensor([0]))).terms["bce"].backward()
    assert all(p.grad is None for p in strategy.teacher.parameters())
    (group,) = strategy.get_parameters(SECOND)
    assert len(group["params"]) == 2


def test_icarl_without_exemplars(train_tiny: Any) -> None:
    """Bit for bit."""
    bare = partial(ICaRL, buffer=Herding(0, seed=0, per_class=None))
    torch.testing.assert_close(train_tiny(LwFMC), train_tiny(bare), rtol=0, atol=0)


def test_heads_of_each_task_are_refused(make_model: Any) -> None:
    benchmark = SimpleNamespace(scenario="task_incremental", labels=[0, 1], num_classes=4)
    assert "set model/head=incremental" in (LwFMC(make_model("multi_head")).conflict(benchmark) or "")
    assert LwFMC(make_model()).conflict(benchmark) is None
    benchmark.scenario = "domain_incremental"
    assert "use class_incremental, task_incremental" in (LwFMC(make_model()).conflict(benchmark) or "")
