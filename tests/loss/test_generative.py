"""Losses of generators and of generated samples, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from clx.loss.distillation import distillation
from clx.loss.generative import soft_cross_entropy, variational_bound

LN3 = math.log(3)


def test_bound_by_hand() -> None:
    """A logit of ln 3 is 3/4: pixel 1 costs ln 4/3, pixel 0 ln 4. Mean 1 and variance 1 cost 1/2; mean 0 and variance
    4 cost (4 - 1 - ln 4) / 2. Two samples: half of it all."""
    logits = torch.full((2, 1), LN3)
    bound = variational_bound(
        logits, torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [math.log(4)]])
    )
    wanted = (math.log(4 / 3) + math.log(4) + 0.5 + (3 - math.log(4)) / 2) / 2
    assert bound.item() == pytest.approx(wanted)


def test_soft_targets_by_hand() -> None:
    """Teacher 0, 2 ln 3 at T = 2 is 1/4, 3/4; student 0, 0, 2 ln 2 is 1/4, 1/4, 1/2: ln 4, times T^2."""
    student, teacher = torch.tensor([[0.0, 0.0, 2 * math.log(2)]]), torch.tensor([[0.0, 2 * LN3]])
    assert soft_cross_entropy(student, teacher, 2.0).item() == pytest.approx(4 * math.log(4), rel=1e-6)


def test_a_sure_teacher_is_a_label_and_equal_classes_are_distillation() -> None:
    """A certain teacher: cross-entropy. The same K: more than the divergence by T^2 times the teacher's entropy."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(4, 3, generator=draw), torch.randn(4, 3, generator=draw)
    sure = 1000 * torch.eye(3)[torch.tensor([0, 2, 1, 1])]
    torch.testing.assert_close(
        soft_cross_entropy(student, sure, 1.0), cross_entropy(student, torch.tensor([0, 2, 1, 1]))
    )
    entropy = torch.distributions.Categorical(logits=teacher / 2).entropy().mean()
    torch.testing.assert_close(
        soft_cross_entropy(student, teacher, 2.0), distillation(student, teacher, 2.0) + 4 * entropy
    )
