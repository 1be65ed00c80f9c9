"""Streaming linear discriminant analysis: by hand, and against the analysis of all samples together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clx.model.head.ncm import NCMClassifier
from clx.model.head.slda import SLDAClassifier
from clx.types import Experience


def adapted(in_features: int, shrinkage: float, *classes: int) -> SLDAClassifier:
    head = SLDAClassifier(in_features, shrinkage)
    head.adaptation(Experience(index=0, classes=classes))
    return head


def test_scores_by_hand() -> None:
    """Class 0: (-1, 0), (1, 0); class 1: (4, -2), (4, 2). Scatter diag(2, 8) by 4 samples: diag(.5, 2). With epsilon
    .5: diag(.75, 1.5), L = diag(4/3, 2/3). Means (0, 0) and (4, 0): w1 = (16/3, 0), b1 = -32/3. At (3, 7): 16 - 32/3.
    """
    head = adapted(2, 0.5, 0, 1)
    head.add(torch.tensor([[-1.0, 0.0], [4.0, -2.0], [1.0, 0.0], [4.0, 2.0]]), torch.tensor([0, 1, 0, 1]))
    head.solve()
    torch.testing.assert_close(head(torch.tensor([[3.0, 7.0]])), torch.tensor([[0.0, 16 / 3]]))


def test_one_covariance_of_all_samples_around_their_class_means() -> None:
    """In three batches, against numpy on everything: log-likelihood ratios of two normal distributions with one
    covariance are what differences of scores are. Tolerance: float32 scores."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(90, 5)), draw.integers(3, size=90)
    x = x @ draw.normal(size=(5, 5)) + 2 * y[:, None]
    head = adapted(5, 1e-4, 0, 1, 2)
    for part in (slice(0, 1), slice(1, 50), slice(50, 90)):
        head.add(torch.from_numpy(x[part]).float(), torch.from_numpy(y[part]))
    head.solve()
    means = np.stack([x[y == k].mean(0) for k in range(3)])
    rows = x - means[y]
    precision = np.linalg.inv((1 - 1e-4) * rows.T @ rows / 90 + 1e-4 * np.eye(5))
    away = x[:, None] - means
    likelihood = -np.einsum("bkd,de,bke->bk", away, precision, away) / 2
    scores = head(torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(scores - scores[:, :1], likelihood - likelihood[:, :1], rtol=1e-3, atol=1e-3)


def test_shrinkage_1_is_the_nearest_class_mean() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 3, generator=draw), torch.arange(40) % 4
    head, ncm = adapted(3, 1.0, 0, 1, 2, 3), NCMClassifier(3, normalize=False)
    ncm.adaptation(Experience(index=0, classes=(0, 1, 2, 3)))
    for each in (head, ncm):
        each.add(x, y)
        each.solve()
    assert torch.equal(head(x).argmax(1), ncm(x).argmax(1))


@pytest.mark.parametrize("shrinkage", [0.0, 1.5])
def test_bad_values(shrinkage: float) -> None:
    with pytest.raises(ValueError, match=f"^shrinkage {shrinkage} is outside"):
        SLDAClassifier(3, shrinkage)
