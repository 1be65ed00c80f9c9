"""Incremental classifier and representation learning."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch

from clx.buffer.herding import Herding
from clx.strategy.icarl import ICaRL
from clx.types import Batch, Experience, Samples

LN3 = math.log(3)


def samples(x: list[list[float]], y: list[int]) -> Samples:
    return Samples(torch.tensor(x), torch.tensor(y), torch.zeros(len(y), dtype=torch.int64))


def loss(strategy: ICaRL, x: list[list[float]], y: list[int]) -> float:
    objective = strategy.observe(Batch(torch.tensor(x), torch.tensor(y), torch.zeros(len(y), dtype=torch.int64)))
    assert objective.terms.keys() == {"bce"}
    assert torch.equal(objective.logits, strategy.model(torch.tensor(x)))
    return objective.terms["bce"].item()


def test_loss_by_hand(make_linear: Any) -> None:
    """Of input 1 the student says (ln 3, 0, 0), so probabilities 3/4, 1/2, 1/2; the teacher (0, ln 3), so targets 1/2,
    3/4 and, for class 2, 1: -1/2 ln 3/4 - 1/2 ln 1/4 = 0.836988, then ln 2 twice: 2.223282 in all.

    Of input 0 everybody says 1/2: 3 ln 2 = 2.079442, also for a sample of an old class. Mean: 2.151362.
    Before, in the first experience, one-hot targets: input 1 of class 1 with logits (0, ln 3): ln 2 - ln 3/4 =
    0.980829.
    """
    strategy = ICaRL(make_linear([[0.0], [LN3]]), Herding(4, seed=0, per_class=None))
    strategy.adaptation(Experience(index=0, classes=(0, 1)))
    assert loss(strategy, [[1.0]], [1]) == pytest.approx(0.980829, abs=1e-6)
    strategy.adaptation(Experience(index=1, classes=(2,), previous_classes=(0, 1)))
    strategy.model.set_rows([[LN3], [0.0], [0.0]])
    assert loss(strategy, [[1.0]], [2]) == pytest.approx(2.223282, abs=1e-6)
    assert loss(strategy, [[1.0], [0.0]], [2, 0]) == pytest.approx(2.151362, abs=1e-6)


def test_no_gradient_for_the_teacher_and_no_place_in_the_optimizer(make_linear: Any) -> None:
    strategy = ICaRL(make_linear([[0.0], [LN3]]), Herding(4, seed=0, per_class=None))
    second = Experience(index=1, classes=(2,), previous_classes=(0, 1))
    strategy.adaptation(second)
    assert strategy.train().teacher is not None
    assert not strategy.teacher.training
    strategy.observe(Batch(torch.ones(1, 1), torch.tensor([2]), torch.tensor([0]))).terms["bce"].backward()
    assert all(p.grad is None for p in strategy.teacher.parameters())
    (group,) = strategy.get_parameters(second)
    assert len(group["params"]) == len(list(strategy.model.parameters())) == 2


@pytest.fixture
def strategy(make_linear: Any) -> ICaRL:
    """After one experience of two classes: (2, 0) and (0, 3) of class 0, (-1, 0) of class 1, all exemplars. By its
    classifier everything is of class 1."""
    strategy = ICaRL(make_linear([[0.0, 0.0], [0.0, 0.0]]), Herding(10, seed=0, per_class=None))
    with torch.no_grad():
        strategy.model.classifier.classifier.bias[1] = 5
    data = samples([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]], [0, 0, 1])
    experience = Experience(index=0, classes=(0, 1), train=data)
    strategy.adaptation(experience)
    assert strategy.inference(torch.ones(1, 2)).argmax(1).item() == 1  # no exemplars yet: the classifier
    strategy.before_task(experience)
    strategy.after_task(experience)
    return strategy


def test_prediction_is_the_nearest_mean(strategy: ICaRL) -> None:
    """Directions (1, 0) and (0, 1) have mean (1, 1) / sqrt 2, class 1 has (-1, 0).

    (0, 5) has direction (0, 1): |(0, 1) - (1, 1) / sqrt 2|^2 = 2 - sqrt 2, and |(0, 1) - (-1, 0)|^2 = 2.
    (-4, 0): 2 + sqrt 2 and 0.
    """
    scores = strategy.inference(torch.tensor([[0.0, 5.0], [-4.0, 0.0]]))
    root = math.sqrt(2)
    expected = [[-math.sqrt(2 - root), -root], [-math.sqrt(2 + root), 0.0]]
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=0, atol=1e-3)
    assert scores.argmax(1).tolist() == [0, 1]


def test_the_classifier_answers_while_an_experience_is_trained(strategy: ICaRL) -> None:
    second = Experience(index=1, classes=(2,), previous_classes=(0, 1), train=samples([[0.0, -1.0]], [2]))
    x = torch.tensor([[0.0, 5.0]])
    assert strategy.inference(x).argmax(1).item() == 0
    strategy.adaptation(second)
    strategy.before_task(second)
    assert torch.equal(strategy.inference(x), strategy.model(x))
    strategy.after_task(second)
    assert strategy.inference(x).shape == (1, 3)
    assert strategy.inference(torch.tensor([[0.0, -2.0]])).argmax(1).item() == 2


def test_new_data_is_trained_with_the_exemplars(strategy: ICaRL) -> None:
    second = Experience(index=1, classes=(2,), previous_classes=(0, 1), train=samples([[0.0, -1.0]] * 2, [2, 2]))
    (phase,) = strategy.phases(second)
    assert Counter(phase.data.y.tolist()) == {0: 2, 1: 1, 2: 2}
    assert phase.data.raw[:2].tolist() == [[0.0, -1.0]] * 2


def test_quota(make_linear: Any, make_experience: Any) -> None:
    """5 exemplars: 3 and 2, then 2 1 1 1."""
    strategy, shares = ICaRL(make_linear([[1.0, 0.0], [0.0, 1.0]]), Herding(5, seed=0, per_class=None)), []
    for index, counts in enumerate(({0: 9, 1: 9}, {2: 9, 3: 9})):
        experience = make_experience(index, counts)
        strategy.adaptation(experience)
        strategy.after_task(experience)
        shares.append(Counter(strategy.buffer.samples().y.tolist()))
    assert shares == [{0: 3, 1: 2}, {0: 2, 1: 1, 2: 1, 3: 1}]


@pytest.mark.parametrize("capacity", [0, 1])
def test_a_class_without_exemplars_leaves_it_to_the_classifier(
    capacity: int, make_linear: Any, make_experience: Any
) -> None:
    strategy, x = ICaRL(make_linear([[1.0, 0.0], [0.0, 1.0]]), Herding(capacity, seed=0, per_class=None)), torch.eye(2)
    experience = make_experience(0, {0: 3, 1: 3})
    strategy.adaptation(experience)
    strategy.after_task(experience)
    assert torch.equal(strategy.inference(x), strategy.model(x))


@pytest.mark.parametrize(
    ("head", "with_buffer", "scenario", "start"),
    [
        ("incremental", True, "class_incremental", None),
        ("incremental", True, "task_incremental", None),
        ("incremental", False, "class_incremental", "buffer=none: "),
        ("multi_head", True, "task_incremental", "model/head: iCaRL "),
        ("multi_head", True, "class_incremental", "model/head: iCaRL "),
        ("incremental", True, "domain_incremental", "benchmark.scenario=domain_incremental "),
    ],
)
def test_conflicts(
    head: str, with_buffer: bool, scenario: str, start: str | None, make_model: Any, make_benchmark: Any
) -> None:
    strategy = ICaRL(make_model(head), Herding(4, seed=0, per_class=None) if with_buffer else None)
    reason = strategy.conflict(make_benchmark(scenario=scenario))
    assert (reason is None) == (start is None)
    if start is not None:
        assert reason.startswith(start)
