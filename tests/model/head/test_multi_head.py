"""One head for each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from clx.model.head.multi_head import MultiHeadClassifier
from clx.types import Experience

MASK = -1000.0
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def grown(*tasks: Mapping[int, tuple[int, ...]], **options: Any) -> MultiHeadClassifier:
    """A head of 3 inputs after an experience of each {task label: classes}."""
    torch.manual_seed(0)
    head = MultiHeadClassifier(3, **options)
    for index, by_task in enumerate(tasks):
        head.adaptation(experience(index, by_task))
    return head


def experience(index: int, by_task: Mapping[int, tuple[int, ...]]) -> Experience:
    classes = tuple(c for group in by_task.values() for c in group)
    return Experience(index=index, classes=classes, classes_by_task=dict(by_task))


def by_hand(head: MultiHeadClassifier, x: Tensor, labels: list[int], columns: Mapping[int, list[int]]) -> Tensor:
    """Row by row: the scores of the task's own head in the task's columns, mask_value elsewhere."""
    K = 1 + max(c for group in columns.values() for c in group)
    out = torch.full((len(x), K), MASK)
    for row, task in enumerate(labels):
        linear = head.classifiers[str(task)]
        for column in columns[task]:
            unit = head.units[task][column]
            out[row, column] = linear.weight[unit] @ x[row] + linear.bias[unit]
    return out


@pytest.mark.parametrize(
    ("tasks", "options", "columns"),
    [
        ([{0: (0, 1)}, {1: (2, 3)}, {2: (4, 5)}], {}, {0: [0, 1], 1: [2, 3], 2: [4, 5]}),
        ([{4: (0, 1, 2)}, {1: (3,)}], {}, {4: [0, 1, 2], 1: [3]}),
        ([{0: (0, 1), 1: (2, 3)}], {}, {0: [0, 1], 1: [2, 3]}),  # several tasks at once
        ([{0: (0, 1)}, {1: (2, 3)}, {0: (1, 4)}], {}, {0: [0, 1, 4], 1: [2, 3]}),  # a task that comes back
        ([{0: (3, 1)}, {1: (0, 2)}], {}, {0: [3, 1], 1: [0, 2]}),  # columns in no order
        ([{0: (0, 1)}, {1: (2, 3)}], {"initial_out_features": 4}, {0: [0, 1], 1: [2, 3]}),
        ([{0: (0, 1)}, {1: (0, 1)}], {}, {0: [0, 1], 1: [0, 1]}),  # tasks that share their columns
    ],
)
def test_each_sample_is_answered_by_its_own_head(
    tasks: list[dict[int, tuple[int, ...]]], options: dict[str, int], columns: dict[int, list[int]]
) -> None:
    """A mixed batch equals the per-task results row by row; columns of other tasks hold mask_value."""
    head = grown(*tasks, **options)
    present = list(columns)
    labels = [present[i % len(present)] for i in (0, 1, 0, 0, 1, 2)]
    expected = by_hand(head, X, labels, columns)
    torch.testing.assert_close(head(X, labels), expected)
    torch.testing.assert_close(head(X, torch.tensor(labels)), expected)
    for task in present:
        alone = by_hand(head, X, [task] * 6, columns)
        for same in (task, [task] * 6, torch.tensor([task] * 6)):
            torch.testing.assert_close(head(X, same), alone)
        torch.testing.assert_close(head.forward_single_task(X, task), alone)


def test_head_widths() -> None:
    """A head starts with initial_out_features = 2 units and gets as many as its task has classes."""
    head = grown({0: (0, 1)}, {1: (2, 3, 4)}, {2: (5,)})
    assert {name: linear.out_features for name, linear in head.classifiers.items()} == {"0": 2, "1": 3, "2": 2}
    assert head(X, 2).shape == (6, 6)


def test_a_class_takes_the_unit_of_its_own_number_or_the_first_free_one() -> None:
    """Heads of 4 units: 2 takes unit 2, 9 the first free one (0); 8 and 7 units 1 and 3, and 6 needs a fifth."""
    head = grown({5: (2, 9)}, {5: (8, 7, 6)}, initial_out_features=4)
    assert head.units == {5: {2: 2, 9: 0, 8: 1, 7: 3, 6: 4}}
    assert head.classifiers["5"].out_features == 5


def test_without_masking_spare_units_take_the_lowest_columns_that_the_task_lacks() -> None:
    """A head of 4 units, classes 1 and 3 on units 1 and 3: spare units 0 and 2 answer in columns 0 and 2."""
    head = grown({0: (1, 3)}, initial_out_features=4, masking=False)
    assert torch.equal(head(X, 0), head.classifiers["0"](X))
    head.adaptation(experience(1, {1: (5, 4)}))  # units 0 and 1; spare 2 and 3 take columns 0 and 1
    scores = head.classifiers["1"](X)
    for labels in (1, [1] * 6):
        logits = head(X, labels)
        assert torch.equal(logits[:, [5, 4, 0, 1]], scores)
        assert bool((logits[:, 2:4] == MASK).all())
    masked = grown({0: (1, 3)}, initial_out_features=4)(X, 0)
    assert bool((masked[:, [0, 2]] == MASK).all())


def test_two_classes_in_each_experience_of_a_stream(make_benchmark: Callable[..., Any]) -> None:
    head = MultiHeadClassifier(3)
    for seen in make_benchmark(scenario="task_incremental").train:
        head.adaptation(seen)
    assert {name: linear.out_features for name, linear in head.classifiers.items()} == {"0": 2, "1": 2, "2": 2}


def test_growth_keeps_old_rows() -> None:
    head = grown({0: (0, 1)}, {1: (2, 3)})
    before = {name: p.detach().clone() for name, p in head.named_parameters()}
    head.adaptation(experience(2, {0: (4,)}))
    assert head.classifiers["0"].weight.shape == (3, 3)
    for name, parameter in head.named_parameters():
        assert torch.equal(parameter[:2], before[name])
    parameters = list(head.parameters())
    head.adaptation(experience(3, {0: (4,), 1: (2, 3)}))
    assert all(a is b for a, b in zip(head.parameters(), parameters, strict=True))


@pytest.mark.parametrize("labels", [7, [0, 7], torch.tensor([7, 7]), torch.tensor([1, 7])])
def test_a_task_without_a_head(labels: int | list[int] | Tensor) -> None:
    with pytest.raises(ValueError, match=r"task_labels 7: .* \[0, 1\]"):
        grown({0: (0, 1)}, {1: (2, 3)})(X[:2], labels)


def test_a_batch_of_none() -> None:
    head = grown({0: (0, 1)}, {1: (2, 3)})
    for labels in (1, [], torch.zeros(0, dtype=torch.int64)):
        assert head(X[:0], labels).shape == (0, 4)


@pytest.mark.parametrize("labels", [1, [1], torch.tensor([1])])
def test_a_batch_of_one(labels: int | list[int] | Tensor) -> None:
    head = grown({0: (0, 1)}, {1: (2, 3)})
    logits = head(X[:1], labels)
    torch.testing.assert_close(logits, by_hand(head, X[:1], [1], {0: [0, 1], 1: [2, 3]}))


@pytest.mark.parametrize("labels", [0, [0, 1]])
def test_dtype_is_kept(labels: int | list[int]) -> None:
    head = grown({0: (0, 1)}, {1: (2, 3)}).to(torch.bfloat16)
    logits = head(X[:2].bfloat16(), labels)
    assert logits.dtype == torch.bfloat16
    assert logits[0, 2:].tolist() == [MASK, MASK]


@pytest.mark.parametrize("labels", [1, [0, 1]])
def test_a_new_head_has_the_dtype_of_the_others(labels: int | list[int]) -> None:
    head = grown({0: (0, 1)}).to(torch.bfloat16)
    head.adaptation(experience(1, {1: (2, 3)}))
    assert head(X[:2].bfloat16(), labels).dtype == torch.bfloat16


def test_gradients_reach_the_heads_of_the_batch_alone() -> None:
    head = grown({0: (0, 1)}, {1: (2, 3)}, {2: (4, 5)})
    head(X[:2], [0, 2]).max(1).values.sum().backward()
    assert {name: p.grad is not None for name, p in head.classifiers.named_parameters() if "weight" in name} == {
        "0.weight": True,
        "1.weight": False,
        "2.weight": True,
    }


def test_a_model_with_it_needs_the_labels(make_model: Callable[..., Any]) -> None:
    model = make_model("multi_head")
    model.classifier.adaptation(experience(0, {0: (0, 1)}))
    with pytest.raises(ValueError, match=r"^task_labels None"):
        model(torch.zeros(1, 16))
    assert model(torch.zeros(1, 16), 0).shape == (1, 2)
