"""Rows brought to one length."""

from __future__ import annotations

import pytest
import torch

from clx.model.head.align import align_rows


def test_by_hand() -> None:
    """Old rows of length 5 and 1, mean 3; new ones of length 10 and 2, mean 6: they are halved."""
    rows = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 10.0], [2.0, 0.0]])
    align_rows(rows, 2)
    assert rows.tolist() == [[3.0, 4.0], [1.0, 0.0], [0.0, 5.0], [1.0, 0.0]]


@pytest.mark.parametrize(("rows", "num_old"), [([[1.0, 2.0]], 0), ([[1.0, 2.0]], 1), ([[1.0, 2.0], [0.0, 0.0]], 1)])
def test_nothing_to_align(rows: list[list[float]], num_old: int) -> None:
    given = torch.tensor(rows)
    align_rows(given, num_old)
    assert given.tolist() == rows
