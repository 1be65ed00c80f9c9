"""Cross-entropy and distillation by their shares of the classes."""

from __future__ import annotations

import math

import pytest
import torch

from clx.loss.share import shared_by_classes

LN3 = math.log(3)


def test_both_terms_by_hand() -> None:
    """Logits (2 ln 3, 0 | 0), class 2, one of three new: r = 2/3. Cross-entropy: ln(9 + 1 + 1) = 2.397895, a third of
    it 0.799298. At temperature 2 the old ones are (ln 3, 0): 3/4, 1/4; the teacher's (0, 2 ln 3): 1/4, 3/4.
    KL = 1/4 ln(1/3) + 3/4 ln 3 = 1/2 ln 3 = 0.549306, two thirds of it 0.366204."""
    logits, y = torch.tensor([[2 * LN3, 0.0, 0.0]]), torch.tensor([2])
    terms = shared_by_classes(logits, y, torch.tensor([[0.0, 2 * LN3, 99.0]]), 2, 2.0)
    assert terms["ce"].item() == pytest.approx(0.799298, abs=1e-6)
    assert terms["distillation"].item() == pytest.approx(0.366204, abs=1e-6)


def test_without_a_teacher_it_is_cross_entropy() -> None:
    terms = shared_by_classes(torch.zeros(2, 3), torch.tensor([0, 2]), None, 2, 2.0)
    assert terms.keys() == {"ce"}
    assert terms["ce"].item() == pytest.approx(LN3, abs=1e-6)


def test_gradient_is_that_of_the_papers_cross_entropy() -> None:
    """-sum q log p over the old classes, softened, by its share."""
    draw = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(5, 4, generator=draw).requires_grad_(), torch.randn(5, 3, generator=draw)
    (mine,) = torch.autograd.grad(
        shared_by_classes(logits, torch.zeros(5).long(), teacher, 3, 2.0)["distillation"], logits
    )
    paper = -((teacher / 2).softmax(1) * (logits[:, :3] / 2).log_softmax(1)).sum(1).mean() * 3 / 4
    torch.testing.assert_close(mine, torch.autograd.grad(paper, logits)[0])
