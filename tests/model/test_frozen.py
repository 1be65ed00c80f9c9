"""Teachers that nothing moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from clx.model.base import Model
from clx.model.dynamic import model_adaptation
from clx.model.frozen import Frozen, frozen_copy
from clx.types import Experience


class Normed(Model):
    """BatchNorm and dropout: both would show a teacher in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.feature_dim, self.classifier = 4, nn.Linear(4, 2)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0)) + 7


@pytest.fixture
def model(x: Tensor) -> Normed:
    torch.manual_seed(0)
    model = Normed()
    model(x)  # moves the BatchNorm statistics off their start
    return model


def test_a_parent_cannot_put_it_in_training_mode(model: Normed, x: Tensor) -> None:
    teacher = frozen_copy(model)
    before = snapshot(teacher)
    student = nn.ModuleList([model, teacher]).train()
    assert model.training
    assert not any(module.training for module in teacher.modules())
    assert torch.equal(teacher(x), teacher(x))
    assert student[1].train(True) is teacher
    torch.testing.assert_close(snapshot(teacher), before, rtol=0, atol=0)


def test_it_answers_as_the_model_in_eval_mode(model: Normed, x: Tensor) -> None:
    teacher = frozen_copy(model)
    model.eval()
    assert torch.equal(teacher(x), model(x))
    assert torch.equal(teacher.features(x), model.features(x))
    assert torch.equal(teacher.classify(model.features(x)), model(x))


@pytest.mark.parametrize("ask", [Frozen.forward, Frozen.features, Frozen.classify])
def test_no_gradient_reaches_or_passes_it(model: Normed, ask: Callable[[Frozen, Tensor], Tensor]) -> None:
    teacher = frozen_copy(model)
    width = 4 if ask is Frozen.classify else 3
    assert not ask(teacher, torch.zeros(2, width, requires_grad=True)).requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())


def test_the_copy_is_apart_from_the_model(model: Normed, x: Tensor) -> None:
    teacher = frozen_copy(model)
    expected = teacher(x)
    assert all(p.requires_grad for p in model.parameters())
    assert model.training
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    model(x)
    assert torch.equal(teacher(x), expected)


def test_a_checkpoint_has_it(model: Normed, x: Tensor) -> None:
    """The state of one teacher makes another the same, BatchNorm statistics included."""
    teacher = frozen_copy(model)
    other = frozen_copy(Normed())
    assert not torch.equal(other(x), teacher(x))
    other.load_state_dict(teacher.state_dict())
    assert torch.equal(other(x), teacher(x))


def test_it_takes_task_labels(make_model: Callable[..., Model]) -> None:
    """Of a multi-head model in its second task, each label gets its own head."""
    model = make_model("multi_head")
    for task in range(2):
        classes = (2 * task, 2 * task + 1)
        model_adaptation(model, Experience(index=task, classes=classes, classes_by_task={task: classes}))
    teacher, x = frozen_copy(model), torch.ones(2, 16)
    labels = torch.tensor([1, 0])
    assert torch.equal(teacher(x, labels), model(x, labels))
    assert torch.equal(teacher.classify(teacher.features(x), labels), model(x, labels))
    assert (teacher(x, labels) > -1000).tolist() == [[False, False, True, True], [True, True, False, False]]
