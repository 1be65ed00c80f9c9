"""The smallest weights."""

from __future__ import annotations

import pytest
import torch

from clx.model.pruning import smallest


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.0, [False, False, False, False, False]),
        (0.5, [False, True, True, False, False]),
        (0.25, [False, True, False, False, False]),
        (1.0, [True, True, True, False, True]),
    ],
)
def test_by_hand(fraction: float, expected: list[bool]) -> None:
    """Candidates 3, -1, 2, 4 of which round(4 * fraction); the 0 is none of them."""
    weight, candidates = torch.tensor([3.0, -1.0, 2.0, 0.0, 4.0]), torch.tensor([True, True, True, False, True])
    assert smallest(weight, candidates, fraction).tolist() == expected


def test_ties_go_together() -> None:
    assert smallest(torch.tensor([0.0, 0.0, 1.0, 0.0]), torch.ones(4).bool(), 0.25).tolist() == [
        True,
        True,
        False,
        True,
    ]
