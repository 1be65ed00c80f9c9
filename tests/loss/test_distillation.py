"""Distillation, worked out by hand. Tolerance everywhere: 1e-6, the digits that are written."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from clx.loss.distillation import distillation, feature_distance, sigmoid_distillation

LN3 = math.log(3)


def equal(value: Tensor, expected: float) -> None:
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_distillation() -> None:
    """Teacher [ln 3, 0] -> p = (3/4, 1/4); student [0, 0] -> q = (1/2, 1/2).

    KL(p || q) = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.304099 - 0.173287 = 0.130812.
    The other way round: KL(q || p) = 1/2 ln(2/3) + 1/2 ln 2 = -0.202733 + 0.346574 = 0.143841.
    """
    even, sure = torch.tensor([[0.0, 0.0]]), torch.tensor([[LN3, 0.0]])
    equal(distillation(even, sure, 1.0), 0.130812)
    equal(distillation(sure, even, 1.0), 0.143841)


def test_temperature() -> None:
    """Teacher [2 ln 3, 0] at T = 2 softens to (3/4, 1/4) again: 2^2 * 0.130812 = 0.523248."""
    equal(distillation(torch.zeros(1, 2), torch.tensor([[2 * LN3, 0.0]]), 2.0), 0.523248)


def test_distillation_is_a_mean_over_the_batch_and_a_sum_over_classes() -> None:
    """p = (3/5, 1/5, 1/5), q = (1/3, 1/3, 1/3): 3/5 ln(9/5) + 2/5 ln(3/5) = 0.352672 - 0.204330 = 0.148342.

    With a second sample on which both agree: half of that, 0.074171.
    """
    teacher = torch.tensor([[LN3, 0.0, 0.0], [1.0, -2.0, 0.5]])
    student = torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 0.5]])
    equal(distillation(student[:1], teacher[:1], 1.0), 0.148342)
    equal(distillation(student, teacher, 1.0), 0.074171)


def test_a_constant_added_to_the_logits_changes_nothing() -> None:
    """0.130812 as above."""
    equal(distillation(torch.tensor([[7.0, 7.0]]), torch.tensor([[LN3 - 5, -5.0]]), 1.0), 0.130812)


def test_gradient_of_distillation() -> None:
    """T^2 dKL/dz = T (q - p) / B: at T = 2, B = 1, p = (3/4, 1/4), q = (1/2, 1/2): 2 * (-1/4, 1/4) = (-1/2, 1/2)."""
    student = torch.zeros(1, 2, requires_grad=True)
    distillation(student, torch.tensor([[2 * LN3, 0.0]]), 2.0).backward()
    torch.testing.assert_close(student.grad, torch.tensor([[-0.5, 0.5]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (1, 3), (2, 1), (3,)])
def test_distillation_needs_the_same_classes(shape: tuple[int, ...]) -> None:
    """Shapes that would broadcast are refused too."""
    with pytest.raises(ValueError, match=r"student \(2, 3\) and teacher \("):
        distillation(torch.zeros(2, 3), torch.zeros(shape), 2.0)


def test_sigmoid_distillation_without_a_teacher() -> None:
    """Student [0, ln 3] -> sigmoids 1/2, 3/4; class 1 is the target, so the truth is (0, 1).

    -ln(1 - 1/2) - ln(3/4) = 0.693147 + 0.287682 = 0.980829.
    """
    equal(sigmoid_distillation(torch.tensor([[0.0, LN3]]), torch.tensor([1]), None), 0.980829)


TEACHER = torch.tensor([[-LN3]])  # sigmoid 1/4 for class 0


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        # class 0: -1/4 ln(3/4) - 3/4 ln(1/4) = 0.071921 + 1.039721 = 1.111641; class 1: -ln(3/4) = 0.287682
        (1, 1.399323),
        # class 0 as before: the teacher's word replaces the label there; class 1: -ln(1/4) = 1.386294
        (0, 2.497936),
    ],
)
def test_sigmoid_distillation_with_a_teacher(target: int, expected: float) -> None:
    """Student [ln 3, ln 3] -> sigmoids 3/4, 3/4; the teacher knows class 0 alone and gives it 1/4."""
    equal(sigmoid_distillation(torch.tensor([[LN3, LN3]]), torch.tensor([target]), TEACHER), expected)


def test_sigmoid_distillation_is_a_mean_over_the_batch() -> None:
    """(1.399323 + 2.497936) / 2 = 1.948629, the two cases above."""
    student, target = torch.full((2, 2), LN3), torch.tensor([1, 0])
    equal(sigmoid_distillation(student, target, TEACHER.expand(2, 1)), 1.948629)


def test_a_teacher_of_all_classes_replaces_every_label() -> None:
    """Student (3/4, 3/4), teacher (1/4, 1/4): 2 * 1.111641 = 2.223282, whatever the target."""
    student, teacher = torch.full((1, 2), LN3), torch.full((1, 2), -LN3)
    for target in (0, 1):
        equal(sigmoid_distillation(student, torch.tensor([target]), teacher), 2.223282)


def test_feature_distance() -> None:
    """1/2 (3^2 + 4^2) = 12.5 and 0: mean 6.25; its gradient (f - teacher) / B = (3, 4) / 2 and 0."""
    features = torch.tensor([[4.0, 5.0], [1.0, 1.0]], requires_grad=True)
    value = feature_distance(features, torch.ones(2, 2))
    equal(value, 6.25)
    value.backward()
    assert features.grad is not None
    assert features.grad.tolist() == [[1.5, 2.0], [0.0, 0.0]]
