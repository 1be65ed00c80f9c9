"""One head that gets a unit for every new class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from clx.model.base import Model
from clx.model.dynamic import model_adaptation
from clx.model.head.incremental import IncrementalClassifier
from clx.model.simple_cnn import SimpleCNN
from clx.types import Experience

X = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])


def grown(*groups: tuple[int, ...], **options: Any) -> IncrementalClassifier:
    """A head of 3 inputs after an experience of each group of classes."""
    head = IncrementalClassifier(3, **options)
    for index, classes in enumerate(groups):
        head.adaptation(Experience(index=index, classes=classes))
    return head


def test_width_is_the_largest_class_and_one() -> None:
    head = grown((2, 7), initial_out_features=1)
    assert head.classifier.weight.shape == (8, 3)
    assert head.active_units.nonzero().flatten().tolist() == [2, 7]


def test_units_of_classes_that_never_came_are_masked() -> None:
    head = grown((2, 7), (0,), mask_value=-50)
    logits = head(X)
    assert logits.shape == (2, 8)
    active = torch.tensor([0, 2, 7])
    assert torch.equal(logits[:, active], head.classifier(X)[:, active])
    idle = [1, 3, 4, 5, 6]
    assert torch.equal(logits[:, idle], torch.full((2, 5), -50.0))
    logits.sum().backward()
    assert head.classifier.bias.grad is not None
    assert head.classifier.bias.grad.nonzero().flatten().tolist() == active.tolist()


def test_without_masking_every_unit_answers() -> None:
    head = grown((2, 7), masking=False)
    assert torch.equal(head(X), head.classifier(X))


def test_before_any_experience_every_unit_is_masked() -> None:
    assert grown()(X).tolist() == [[-1000.0, -1000.0]] * 2


def test_a_mask_comes_back_when_classes_skip_columns() -> None:
    """All of 0 1 2 are active; then 5 comes, and 3 and 4 are idle again."""
    head = grown((0, 1, 2))
    assert torch.equal(head(X), head.classifier(X))
    head.adaptation(Experience(index=1, classes=(5,)))
    assert head(X)[:, 3:5].tolist() == [[-1000.0, -1000.0]] * 2
    assert head(X)[0, 5] > -1000


def test_growth_keeps_old_rows_and_adapting_again_changes_nothing() -> None:
    head = grown((0, 1))
    weight, bias = (p.detach().clone() for p in head.parameters())
    second = Experience(index=1, classes=(8, 9))
    head.adaptation(second)
    assert head.classifier.weight.shape == (10, 3)
    assert torch.equal(head.classifier.weight[:2], weight)
    assert torch.equal(head.classifier.bias[:2], bias)
    parameters = list(head.parameters())
    head.adaptation(second)
    assert all(a is b for a, b in zip(head.parameters(), parameters, strict=True))


def test_two_more_units_for_each_experience_of_two_classes(make_benchmark: Callable[..., Any]) -> None:
    head, widths = IncrementalClassifier(3), []
    for experience in make_benchmark().train:
        head.adaptation(experience)
        widths.append(head(X).shape[1])
    assert widths == [2, 4, 6]


def test_inside_a_model(make_benchmark: Callable[..., Any]) -> None:
    """The documents' way: the head in the place of the classifier of a SimpleCNN."""
    model: Model = SimpleCNN(num_classes=1)
    model.classifier = IncrementalClassifier(model.classifier[0].in_features, 1)
    for experience in make_benchmark().train:
        model_adaptation(model, experience)
    assert model(torch.zeros(1, 3, 16, 16)).shape == (1, 6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    head = grown((0, 1)).to(dtype)
    head.adaptation(Experience(index=1, classes=(4,)))
    logits = head(X[:1].to(dtype))
    assert (logits.dtype, logits.shape) == (dtype, (1, 5))
    assert logits[0, 2:4].tolist() == [-1000.0, -1000.0]
