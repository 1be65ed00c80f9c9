"""Features held to those of the model before this experience."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.loop.trainer import Trainer
from clx.model.base import Model
from clx.model.head.incremental import IncrementalClassifier
from clx.regularizer.feature_distillation import FeatureDistillation
from clx.strategy.finetune import Finetune
from clx.types import Batch, Experience, Objective

FIRST, SECOND = Experience(index=0, classes=(0, 1)), Experience(index=1, classes=(2,), previous_classes=(0, 1))


class Scaled(Model):
    """Features: the inputs times a factor."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim, self.classifier = 2, IncrementalClassifier(2)
        self.factor = nn.Parameter(torch.tensor(1.0))

    def features(self, x: Tensor) -> Tensor:
        return self.factor * x


def penalty(held: FeatureDistillation, model: Model, x: Tensor) -> Tensor | None:
    zeros = torch.zeros(len(x), dtype=torch.int64)
    return held.penalty(model, Batch(x, zeros, zeros), Objective({}, model(x)))


def test_value_by_hand() -> None:
    """From factor 1 to 3: features of (1, 2) are (2, 4) away, 1/2 (4 + 16) = 10; of (0, 0) nowhere: mean 5.
    1/2 (f - 1)^2 5 / 2 has the slope 5/2 (f - 1) = 5; the loop multiplies by the weight."""
    held, model = FeatureDistillation(7.0), Scaled()
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    held.adaptation(model, FIRST)
    assert penalty(held, model, x) is None
    held.adaptation(model, SECOND)
    with torch.no_grad():
        model.factor.fill_(3.0)
    value = penalty(held, model, x)
    assert value is not None
    assert value.item() == pytest.approx(5.0)
    value.backward()
    assert model.factor.grad is not None
    assert model.factor.grad.item() == pytest.approx(5.0)
    assert all(p.grad is None for p in [*held.parameters(), *model.classifier.parameters()])
    held.adaptation(model, Experience(index=2, classes=(3,), previous_classes=(0, 1, 2)))  # from here on, as it is now
    assert penalty(held, model, x).item() == 0  # type: ignore[union-attr]


def test_a_phase_without_logits_is_left_alone() -> None:
    held, model = FeatureDistillation(1.0), Scaled()
    held.adaptation(model, SECOND)
    assert held.penalty(model, Batch(torch.ones(1, 2), *torch.zeros(2, 1).long()), Objective({})) is None


def test_training_leaves_the_teacher_alone(make_benchmark: Any, make_model: Any) -> None:
    held, model = FeatureDistillation(1.0), make_model()
    trainer = Trainer(Finetune(model), regularizers={"held": held}, epochs=2, batch_size=4, device="cpu")
    experiences = make_benchmark().train
    trainer.train(experiences[:1])
    before = {name: value.clone() for name, value in model.body.state_dict().items()}
    trainer.train(experiences[1:2])
    assert held.teacher is not None
    assert not held.train().teacher.training  # type: ignore[union-attr]
    teacher = held.teacher.model.get_submodule("body").state_dict()
    torch.testing.assert_close(dict(teacher), before, rtol=0, atol=0)
    assert not torch.equal(model.body.state_dict()["1.weight"], before["1.weight"])


@pytest.mark.parametrize("head", ["incremental", "multi_head"])
def test_weight_0_is_finetune(head: str, train_tiny: Any) -> None:
    plain, weightless, weighty = (
        train_tiny(Finetune, head, regularizers=regularizers)
        for regularizers in ({}, {"held": FeatureDistillation(0.0)}, {"held": FeatureDistillation(1.0)})
    )
    torch.testing.assert_close(weightless, plain, rtol=0, atol=0)
    assert not torch.equal(weighty["body.1.weight"], plain["body.1.weight"])


def test_features_of_each_task_are_refused() -> None:
    model = Scaled()
    model.task_features = True
    with pytest.raises(ValueError, match=r"^regularizer=feature_distillation: this network has features of its own"):
        FeatureDistillation(1.0).adaptation(model, FIRST)


def test_bad_weight() -> None:
    with pytest.raises(ValueError, match=r"^weight -1.0 < 0"):
        FeatureDistillation(-1.0)
