"""CWR*: what is trained and what is kept."""

from __future__ import annotations

import pytest
import torch

from clx.model.head.cwr import CWRClassifier
from clx.types import Experience


@torch.no_grad()
def trained(head: CWRClassifier, rows: dict[int, list[float]]) -> None:
    for column, row in rows.items():
        head.classifier.weight[column] = torch.tensor(row)


def grown(*groups: tuple[int, ...]) -> CWRClassifier:
    head = CWRClassifier(2)
    for index, classes in enumerate(groups):
        head.adaptation(Experience(index=index, classes=classes))
    return head


def test_consolidation_by_hand() -> None:
    """Experience 1: rows (1, 3) and (5, 7), mean 4: (-3, -1) and (1, 3) are kept, of 8 and 2 samples.
    Experience 2: class 0 again, 2 samples, row (2, 0), and a new class 2, row (0, 2), mean 1: w = (1, -1) and (-1, 1).
    m = sqrt(8 / 2) = 2: ((-3, -1) 2 + (1, -1)) / 3 = (-5/3, -1); class 2: m = 0: (-1, 1); class 1 stays."""
    head = grown((0, 1))
    head.start([0, 1])
    trained(head, {0: [1.0, 3.0], 1: [5.0, 7.0]})
    head.consolidate(torch.tensor([8, 2]))
    assert head.classifier.weight.tolist() == [[-3, -1], [1, 3]]
    head.adaptation(Experience(index=1, classes=(0, 2)))
    head.start([0, 2])
    assert head.classifier.weight.tolist() == [[-3, -1], [0, 0], [0, 0]]
    trained(head, {0: [2.0, 0.0], 1: [9.0, 9.0], 2: [0.0, 2.0]})
    head.consolidate(torch.tensor([2, 0, 2]))
    torch.testing.assert_close(head.classifier.weight.data, torch.tensor([[-5 / 3, -1.0], [1.0, 3.0], [-1.0, 1.0]]))
    assert head.past.tolist() == [10, 2, 2]


def test_it_has_no_bias_and_grows() -> None:
    head = grown((0, 1), (2, 3, 4))
    assert [tuple(p.shape) for p in head.parameters()] == [(5, 2)]
    assert (head.consolidated.shape, head.past.shape) == ((5, 2), (5,))


def test_a_grown_one_loads_into_a_fresh_one() -> None:
    head, fresh = grown((0, 1), (2, 3)), CWRClassifier(2)
    head.start([2, 3])
    trained(head, {2: [1.0, 0.0], 3: [0.0, 1.0]})
    head.consolidate(torch.tensor([0, 0, 3, 3]))
    fresh.load_state_dict(head.state_dict())
    x = torch.randn(3, 2)
    assert torch.equal(fresh(x), head(x))
    assert fresh.past.tolist() == [0, 0, 3, 3]


@pytest.mark.parametrize("column", [0, 1])
def test_classes_that_never_came_are_masked(column: int) -> None:
    assert grown((2,))(torch.ones(1, 2))[0, column] == -1000
