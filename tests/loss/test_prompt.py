"""Losses of methods that learn prompts."""

from __future__ import annotations

import pytest
import torch

from clx.loss.prompt import orthogonality, pull


def test_pull_by_hand() -> None:
    """Cosines 1 and .5 are .5 away, 0 and -1 are 3: mean 1.75."""
    assert pull(torch.tensor([[1.0, 0.5], [0.0, -1.0]])).item() == pytest.approx(1.75)


def test_orthogonality_by_hand() -> None:
    """Rows (1, 0), (1, 1): B B' - I = 0 1 / 1 1, squares 3 of 4 entries; the identity adds 0."""
    rows = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
    assert orthogonality(rows).item() == pytest.approx(0.75)
    assert orthogonality(rows[0]).item() == pytest.approx(0.75)
