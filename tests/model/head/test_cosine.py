"""Scores by angle, one block of embeddings for each experience."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from clx.model.head.cosine import CosineClassifier
from clx.types import Experience

X = torch.tensor([[3.0, 4.0], [0.0, -2.0]])


def grown(*groups: tuple[int, ...], scale: float = 1.0) -> CosineClassifier:
    head = CosineClassifier(2, scale=scale)
    for index, classes in enumerate(groups):
        head.adaptation(Experience(index=index, classes=classes))
    return head


@torch.no_grad()
def fill(head: CosineClassifier, rows: list[list[float]]) -> Tensor:
    """Give the embeddings these rows, block after block."""
    start = 0
    for block in head.blocks.values():
        block.copy_(torch.tensor(rows[start : start + len(block)]))
        start += len(block)
    return torch.tensor(rows)


def test_logits_are_the_scale_times_the_cosine() -> None:
    """x = (3, 4) of length 5 and (0, -2); embeddings (1, 0), (0, 2), (3, 4): cosines 3/5, 4/5, 1 and 0, -1, -4/5.
    Lengths do not count. Tolerance: float32."""
    head = grown((0, 1), (2,), scale=10.0)
    fill(head, [[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
    expected = torch.tensor([[0.6, 0.8, 1.0], [0.0, -1.0, -0.8]])
    torch.testing.assert_close(head.cosine(X), expected)
    torch.testing.assert_close(head(X), 10 * expected)
    torch.testing.assert_close(head(7 * X), 10 * expected)


def test_a_block_for_each_experience_with_new_classes() -> None:
    """Two classes, one more beside an old one, none, two: blocks of 2, 1 and 2 rows, named by what stood before."""
    head = grown((0, 1), (1, 2), (0, 2), (3, 4))
    assert {name: len(block) for name, block in head.blocks.items()} == {"0": 2, "2": 1, "3": 2}
    assert head(X).shape == (2, 5)


def test_old_blocks_are_the_same_parameters_after_growth() -> None:
    head = grown((0, 1))
    old = head.blocks["0"]
    before = old.detach().clone()
    head.adaptation(Experience(index=1, classes=(2,)))
    assert head.blocks["0"] is old
    assert torch.equal(old, before)
    bound = 1 / math.sqrt(2)
    assert 0 < head.blocks["2"].abs().max() <= bound


def test_old_and_new_embeddings_train_apart_and_share_the_scale() -> None:
    head = grown((0, 1), (2, 3))
    optimizer = torch.optim.SGD([{"params": [head.blocks["0"]], "lr": 0.0}, {"params": [head.blocks["2"], head.scale]}],
                                lr=0.1)  # fmt: skip
    before = {name: p.detach().clone() for name, p in head.named_parameters()}
    torch.nn.functional.cross_entropy(head(X), torch.tensor([2, 0])).backward()
    optimizer.step()
    moved = {name for name, p in head.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"blocks.2", "scale"}


def test_columns_of_classes_that_never_came() -> None:
    """Classes 4 and 1: five columns; only those two answer, each with its own embedding."""
    head = grown((4,), (1,))
    fill(head, [[3.0, 4.0], [0.0, -1.0]])
    m = head.mask_value
    torch.testing.assert_close(head(X), torch.tensor([[m, -0.8, m, m, 1.0], [m, 1.0, m, m, -0.8]]))
    assert head.cosine(X)[0].tolist() == pytest.approx([-1, -0.8, -1, -1, 1])


def test_before_any_class_there_is_no_column() -> None:
    assert CosineClassifier(2)(X).shape == (2, 0)


@pytest.mark.parametrize("rows", [1, 2])
def test_dtype_is_kept(rows: int) -> None:
    head = grown((0, 1)).to(torch.bfloat16)
    head.adaptation(Experience(index=1, classes=(4,)))
    logits = head(X[:rows].bfloat16())
    assert (logits.dtype, logits.shape) == (torch.bfloat16, (rows, 5))


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_scale_that_cannot_be(scale: float) -> None:
    with pytest.raises(ValueError, match=r"^scale "):
        CosineClassifier(2, scale=scale)
