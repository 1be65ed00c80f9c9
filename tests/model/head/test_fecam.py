"""FeCAM: its three matrices by hand, and the distance against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clx.model.head.fecam import FeCAMClassifier, correlation, shrunk
from clx.model.head.ncm import NCMClassifier
from clx.types import Experience


def test_shrinkage_by_hand() -> None:
    """Variances 2 and 6, covariance 1: mean variance 4, mean covariance 1."""
    found = shrunk(torch.tensor([[2.0, 1.0], [1.0, 6.0]]), 0.5, 3.0)
    assert found.tolist() == [[4, 4], [4, 8]]


def test_the_mean_covariance_leaves_out_zeros() -> None:
    """Of covariances 6, 0, 0 it is 6; a feature that never varies gets the mean variance, 4, and that covariance."""
    found = shrunk(torch.tensor([[6.0, 6.0, 0.0], [6.0, 6.0, 0.0], [0.0, 0.0, 0.0]]), 1.0, 1.0)
    assert found.tolist() == [[10, 12, 6], [12, 10, 6], [6, 6, 4]]


def test_correlation_by_hand() -> None:
    """Deviations 2 and 3: 3 / 6. A feature without any is 0 throughout, not NaN."""
    assert correlation(torch.tensor([[4.0, 3.0], [3.0, 9.0]])).tolist() == [[1, 0.5], [0.5, 1]]
    assert correlation(torch.tensor([[4.0, 0.0], [0.0, 0.0]])).tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize("norm_cov", [True, False])
def test_scores_against_numpy(norm_cov: bool) -> None:
    """Two batches; the formulas on all samples of each class: features to the power .5, of length one, and the mean
    of the features as they came treated alike. Tolerance: float32."""
    draw = np.random.default_rng(0)
    x, y = draw.gamma(2.0, size=(80, 4)), draw.integers(2, size=80)
    head = FeCAMClassifier(4, beta=0.5, alpha1=0.7, alpha2=0.3, norm_cov=norm_cov)
    head.adaptation(Experience(index=0, classes=(0, 1)))
    for part in (slice(0, 30), slice(30, 80)):
        head.add(torch.from_numpy(x[part]).float(), torch.from_numpy(y[part]))
        head.solve()
    u = np.sqrt(x) / np.linalg.norm(np.sqrt(x), axis=1, keepdims=True)
    wanted = []
    for k in range(2):
        mean, covariance = np.sqrt(x[y == k].mean(0)), np.cov(np.sqrt(x[y == k]).T)
        off = covariance[~np.eye(4, dtype=bool)].mean()
        covariance += 0.7 * np.trace(covariance) / 4 * np.eye(4) + 0.3 * off * (1 - np.eye(4))
        if norm_cov:
            covariance /= np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        away = u - mean / np.linalg.norm(mean)
        wanted.append(-np.einsum("bd,de,be->b", away, np.linalg.inv(covariance), away))
    scores = head(torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(scores, np.stack(wanted, 1), rtol=1e-4, atol=1e-5)


def test_without_its_parts_and_much_shrunk_it_ranks_as_the_nearest_mean() -> None:
    """alpha1 1e9 leaves a multiple of the identity, and its correlation the identity: squared distances of vectors of
    length one. Class means of features, not of features of length one: hence the samples of equal length."""
    draw = torch.Generator().manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(60, 3, generator=draw), dim=1)
    y = torch.arange(60) % 3
    head, ncm = FeCAMClassifier(3, beta=1.0, alpha1=1e9, alpha2=0.0), NCMClassifier(3)
    for each in (head, ncm):
        each.adaptation(Experience(index=0, classes=(0, 1, 2)))
        each.add(x, y)
        each.solve()
    torch.testing.assert_close(head(x), -ncm(x).square(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "start"),
    [({"beta": 0.0}, "beta 0.0 is not above 0"), ({"alpha1": -1.0}, "alpha1 -1.0 < 0"), ({"alpha2": -1.0}, "alpha2")],
)
def test_bad_values(wrong: dict[str, float], start: str) -> None:
    with pytest.raises(ValueError, match=f"^{start}"):
        FeCAMClassifier(3, **wrong)
