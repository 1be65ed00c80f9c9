"""Adaptation reaches every dynamic module once; a multi-task module splits its batch by task."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from clx.model.dynamic import DynamicModule, MultiTaskModule, model_adaptation, needs_task_labels
from clx.types import Experience

EXPERIENCE = Experience(index=0, classes=(0, 1))


class Noting(DynamicModule):
    """Writes its name down when it is adapted; may make a child while it does."""

    def __init__(self, name: str, log: list[str], *children: nn.Module, grows: bool = False) -> None:
        super().__init__()
        self.name, self.log, self.grows = name, log, grows
        self.parts = nn.ModuleList(children)

    def adaptation(self, experience: Experience) -> None:
        assert experience is EXPERIENCE
        self.log.append(self.name)
        if self.grows:
            self.parts.append(Noting("born", self.log))


def recursive(model: nn.Module) -> None:
    assert isinstance(model, DynamicModule)
    model.recursive_adaptation(EXPERIENCE)


@pytest.mark.parametrize("adapt", [lambda model: model_adaptation(model, EXPERIENCE), recursive])
def test_every_dynamic_module_once_and_parents_first(adapt: Callable[[nn.Module], None]) -> None:
    """A shared module is adapted once, one between plain modules is found, and so is one that a parent makes."""
    log: list[str] = []
    shared = Noting("shared", log)
    plain = nn.Sequential(nn.Linear(1, 1), nn.Sequential(Noting("deep", log)), shared)
    adapt(Noting("root", log, shared, plain, Noting("maker", log, grows=True)))
    assert log == ["root", "shared", "deep", "maker", "born"]


def test_a_plain_root_and_a_cycle() -> None:
    log: list[str] = []
    first, second = Noting("first", log), Noting("second", log)
    first.parts.append(second)
    second.parts.append(first)
    model_adaptation(nn.Sequential(first), EXPERIENCE)
    assert log == ["first", "second"]


class Widening(MultiTaskModule):
    """Task t answers with t + 1 columns, each (t + 1) x; only forward_single_task is written."""

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        return (x * (task_label + 1)).expand(-1, task_label + 1)


@pytest.mark.parametrize("labels", [[0, 2, 0, 1], torch.tensor([0, 2, 0, 1])])
def test_a_mixed_batch_is_split_by_task(labels: list[int] | Tensor) -> None:
    """Rows keep their place; tasks with fewer columns than the widest are padded with mask_value."""
    m = Widening.mask_value
    out = Widening()(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), labels)
    assert out.tolist() == [[1.0, m, m], [6.0, 6.0, 6.0], [3.0, m, m], [8.0, 8.0, m]]


def test_one_label_for_all() -> None:
    x = torch.tensor([[1.0], [2.0]])
    expected = [[2.0, 2.0], [4.0, 4.0]]
    assert Widening()(x, 1).tolist() == Widening()(x, [1, 1]).tolist() == expected


def test_every_form_of_the_labels_agrees_once_classes_are_known() -> None:
    """Classes 0..3 came with tasks 0 and 2: four columns in every form; None answers for the tasks known alone."""
    module, x = Widening(), torch.tensor([[1.0], [2.0]])
    for index, (task, classes) in enumerate([(0, (0, 1)), (2, (2, 3))]):
        module.adaptation(Experience(index=index, classes=classes, classes_by_task={task: classes}))
    m = Widening.mask_value
    expected = [[3.0, 3.0, 3.0, m], [6.0, 6.0, 6.0, m]]
    for labels in (2, [2, 2], torch.tensor([2, 2])):
        assert module(x, labels).tolist() == expected
    answers = module(x, None)
    assert list(answers) == [0, 2]
    assert answers[2].tolist() == expected
    assert answers[0].tolist() == [[1.0, m, m, m], [2.0, m, m, m]]
    assert module(x.bfloat16(), [0, 2]).dtype == torch.bfloat16


def test_who_needs_task_labels() -> None:
    assert needs_task_labels(nn.Sequential(nn.Linear(1, 1), nn.Sequential(Widening())))
    assert not needs_task_labels(nn.Sequential(nn.Linear(1, 1), DynamicModule()))
