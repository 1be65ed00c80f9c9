"""The gate's arithmetic by hand."""

from __future__ import annotations

import math

import pytest
import torch

from clx.loss.gate import gate, mixture, reconstruction_error, relatedness


def test_reconstruction_error_is_the_mean_square_of_each_sample() -> None:
    """(1, 0) against (0, 0): 1/2; (2, 2) against (0, 0): 4."""
    assert reconstruction_error(torch.tensor([[1.0, 0.0], [2.0, 2.0]]), torch.zeros(2, 2)).tolist() == [0.5, 4.0]


@pytest.mark.parametrize(
    ("own", "other", "expected"), [(2.0, 2.0, 1.0), (2.0, 3.0, 0.5), (2.0, 4.0, 0.0), (2.0, 1.0, 1.5)]
)
def test_relatedness(own: float, other: float, expected: float) -> None:
    """1 - (other - own) / own: as good as its own is 1, twice the error 0."""
    assert relatedness(own, other) == pytest.approx(expected)


def test_relatedness_of_a_perfect_autoencoder() -> None:
    with pytest.raises(ValueError, match=r"^own 0"):
        relatedness(0.0, 1.0)


def test_probabilities() -> None:
    """Errors 2 and 4 are 1 and 2 times the smallest; temp 2: e^-.5 and e^-1, so 1 / (1 + e^-.5) = .6225."""
    p = gate(torch.tensor([[2.0, 4.0], [0.4, 0.2]]), 2.0)
    assert p[0].tolist() == pytest.approx([0.622459, 0.377541], abs=1e-6)
    assert p[1].tolist() == pytest.approx([0.377541, 0.622459], abs=1e-6)
    sharp = gate(torch.tensor([[2.0, 4.0]]), 0.1)
    assert sharp[0, 0] > 0.9999


OFF = -math.inf
LOGITS = torch.tensor([[[0.0, 0.0, OFF]], [[OFF, OFF, 3.0]]])  # expert 0: classes 0 1, even; expert 1: class 2


@pytest.mark.parametrize(("k", "expected"), [(1, [0.5, 0.5, 0.0]), (2, [0.35, 0.35, 0.3])])
def test_mixture(k: int, expected: list[float]) -> None:
    """Gate .7 and .3. One expert: its own probabilities; both: .7 (.5, .5, 0) + .3 (0, 0, 1)."""
    scores = mixture(LOGITS, torch.tensor([[0.7, 0.3]]), k)
    assert scores.exp()[0].tolist() == pytest.approx(expected)
    assert bool(torch.isfinite(scores).all())
