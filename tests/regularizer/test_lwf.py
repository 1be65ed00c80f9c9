"""Learning without forgetting."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.loop.trainer import Trainer
from clx.model.base import Model
from clx.model.dynamic import model_adaptation
from clx.model.head.incremental import IncrementalClassifier
from clx.regularizer.lwf import LwF, columns
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Objective

LN3 = math.log(3)


def meet(lwf: LwF, model: Model, experience: Experience) -> None:
    """What the Trainer does before an experience: growth, then the regularizer."""
    model_adaptation(model, experience)
    lwf.adaptation(model, experience)


def penalty(lwf: LwF, model: Model, x: Tensor) -> Tensor | None:
    zeros = torch.zeros(len(x), dtype=torch.int64)
    return lwf.penalty(model, Batch(x, zeros, zeros), Objective({}, model(x)))


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_nothing_to_hold_on_to_in_the_first_experience(make_linear: Any) -> None:
    lwf, model = LwF(1.0, temperature=2.0), make_linear([[1.0], [0.0]])
    meet(lwf, model, Experience(index=0, classes=(0, 1)))
    assert penalty(lwf, model, torch.ones(1, 1)) is None


@pytest.mark.parametrize("new", [0.0, -7.0])
def test_value_by_hand(new: float, make_linear: Any) -> None:
    """Of input 1 the teacher's old logits are (2 ln 3, 0) and the student's (0, 0); T = 2.

    Softened: softmax(ln 3, 0) = (3/4, 1/4) and (1/2, 1/2); KL = 3/4 ln 3/2 + 1/4 ln 1/2 = 0.130812; times T^2 = 4:
    0.523248. Of input 0 both say (1/2, 1/2): 0. The mean is 0.261624, whatever the new column says; the loop
    multiplies by the weight.
    """
    lwf, model = LwF(5.0, temperature=2.0), make_linear([[2 * LN3], [0.0]])
    meet(lwf, model, Experience(index=0, classes=(0, 1)))
    meet(lwf, model, Experience(index=1, classes=(2,), previous_classes=(0, 1)))
    model.set_rows([[0.0], [0.0], [new]])
    value = penalty(lwf, model, torch.tensor([[1.0], [0.0]]))
    assert value is not None
    assert value.item() == pytest.approx(0.261624, abs=1e-6)
    value.backward()
    assert model.classifier.classifier.weight.grad[:2].abs().min() > 0
    assert model.classifier.classifier.weight.grad[2].item() == 0
    assert all(p.grad is None for p in lwf.parameters())


def test_a_phase_without_logits_is_left_alone(make_linear: Any) -> None:
    lwf, model = LwF(1.0, temperature=2.0), make_linear([[1.0], [0.0]])
    meet(lwf, model, Experience(index=0, classes=(0, 1)))
    meet(lwf, model, Experience(index=1, classes=(2,), previous_classes=(0, 1)))
    assert lwf.penalty(model, Batch(*torch.zeros(3, 1)), Objective({})) is None


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # One task: softmax over all four old columns.
        ((0, 0, 0), kl([3 / 6, 1 / 6, 1 / 6, 1 / 6], [1 / 4] * 4)),
        # Labelled tasks: softmax over the two columns of each, summed; the second agrees.
        ((0, 1, 2), kl([3 / 4, 1 / 4], [1 / 2, 1 / 2])),
        # The first task comes back with new classes, which its teacher does not know.
        ((0, 1, 0), kl([3 / 4, 1 / 4], [1 / 2, 1 / 2])),
    ],
)
def test_softmax_over_the_classes_of_each_earlier_task(
    labels: tuple[int, ...], expected: float, make_linear: Any
) -> None:
    """The teacher's old logits are (ln 3, 0, 0, 0), the student's 0; T = 1."""
    lwf, model = LwF(1.0, temperature=1.0), make_linear([[LN3], [0.0]])
    for index, label in enumerate(labels):
        classes = (2 * index, 2 * index + 1)
        previous = tuple(range(2 * index))
        experience = Experience(
            index=index, classes=classes, previous_classes=previous, classes_by_task={label: classes}
        )
        model_adaptation(model, experience)
        if index:  # what the teacher is to know
            model.set_rows([[LN3]] + [[0.0]] * (2 * index + 1))
        lwf.adaptation(model, experience)
    model.set_rows([[0.0]] * 4 + [[3.0]] * 2)
    value = penalty(lwf, model, torch.ones(2, 1))
    assert value is not None
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_each_earlier_head_answers_for_its_own_task(make_model: Callable[..., Model]) -> None:
    """Task 2 of a multi-head model: the sum over heads 0 and 1 of T^2 KL on their own two scores of the new inputs."""
    torch.manual_seed(0)
    lwf, model, T = LwF(1.0, temperature=2.0), make_model("multi_head"), 2.0
    x, heads = torch.randn(5, 16), model.get_submodule("classifier.classifiers")
    for task in range(3):
        classes = (2 * task, 2 * task + 1)
        previous = tuple(range(2 * task))
        meet(
            lwf,
            model,
            Experience(index=task, classes=classes, previous_classes=previous, classes_by_task={task: classes}),
        )
    with torch.no_grad():
        before = [(heads[str(task)](model.features(x)) / T).softmax(1) for task in (0, 1)]
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 5)
        after = [(heads[str(task)](model.features(x)) / T).softmax(1) for task in (0, 1)]
    expected = sum(T**2 * (p * (p / q).log()).sum(1).mean() for p, q in zip(before, after, strict=True))
    assert expected > 0.01
    labels = torch.full((5,), 2)
    value = lwf.penalty(model, Batch(x, labels, labels), Objective({}, model(x, labels)))
    assert value is not None
    assert value.item() == pytest.approx(float(expected), rel=1e-4)
    value.backward()
    assert heads["2"].weight.grad is None or not heads["2"].weight.grad.any()


class Normed(Model):
    """A model whose BatchNorm would show a teacher in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8))
        self.feature_dim, self.classifier = 8, IncrementalClassifier(8)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)


def test_training_leaves_the_teacher_alone(make_benchmark: Any) -> None:
    """All through the second experience the teacher is the model as it was at its start, BatchNorm statistics too."""
    torch.manual_seed(0)
    lwf, model = LwF(1.0, temperature=2.0), Normed()
    trainer = Trainer(Finetune(model), regularizers={"lwf": lwf}, epochs=3, batch_size=4, device="cpu")
    experiences = make_benchmark().train
    trainer.train(experiences[:1])
    trainer.grow(experiences[1])
    assert lwf.teacher is not None
    before = {name: value.clone() for name, value in lwf.teacher.model.state_dict().items()}
    torch.testing.assert_close(before, dict(model.state_dict()), rtol=0, atol=0)
    trainer.regularizers.train()
    trainer.train(experiences[1:2])
    assert not any(module.training for module in lwf.teacher.modules())
    torch.testing.assert_close(dict(lwf.teacher.model.state_dict()), before, rtol=0, atol=0)
    for name in ("body.1.weight", "body.2.running_mean", "classifier.classifier.weight"):
        assert not torch.equal(model.state_dict()[name], before[name])


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_weight_0_is_finetune(head: str, train_tiny: Any) -> None:
    plain, weightless, weighty = (
        train_tiny(Finetune, head, regularizers=regularizers)
        for regularizers in ({}, {"lwf": LwF(0.0, temperature=2.0)}, {"lwf": LwF(1.0, temperature=2.0)})
    )
    torch.testing.assert_close(weightless, plain, rtol=0, atol=0)
    assert not torch.equal(weighty["body.1.weight"], plain["body.1.weight"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(LwF, -1.0, temperature=2.0), r"^weight -1.0 < 0"),
        (partial(LwF, 1.0, temperature=0.0), r"^temperature 0.0 <= 0"),
    ],
)
def test_bad_values(make: Callable[[], LwF], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("classes", "expected"),
    [((0, 1, 2), slice(0, 3)), ((4, 5), slice(4, 6)), ((7,), slice(7, 8)), ((0, 2), [0, 2]), ((1, 0), [1, 0])],
)
def test_columns_side_by_side_are_a_slice(classes: tuple[int, ...], expected: slice | list[int]) -> None:
    assert columns(classes) == expected
