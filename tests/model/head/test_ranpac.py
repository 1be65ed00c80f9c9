"""RanPAC: ridge regression by hand, against numpy, and the choice of its ridge against solving it for each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clx.model.head.ranpac import RIDGES, RanPACClassifier, ridge_errors
from clx.types import Experience


def adapted(in_features: int, *classes: int, M: int, ridge: float | None = 1.0) -> RanPACClassifier:
    torch.manual_seed(0)
    head = RanPACClassifier(in_features, M, ridge)
    head.adaptation(Experience(index=0, classes=classes))
    return head


def test_scores_by_hand() -> None:
    """R = (1, -1): x = 2 gives h = (2, 0), x = -1 gives (0, 1). G = diag(4, 1), Q = (2, 0) of class 0 and (0, 1) of
    class 1; with ridge 1 W = (2/5, 0) and (0, 1/2). At x = 5: 2 and 0; at -4: 0 and 2."""
    head = adapted(1, 0, 1, M=2)
    head.projection.copy_(torch.tensor([[1.0, -1.0]]))
    head.add(torch.tensor([[2.0], [-1.0]]), torch.tensor([0, 1]))
    head.solve()
    torch.testing.assert_close(head.weight, torch.tensor([[0.4, 0.0], [0.0, 0.5]]))
    torch.testing.assert_close(head(torch.tensor([[5.0], [-4.0]])), torch.tensor([[2.0, 0.0], [0.0, 2.0]]))


def test_many_batches_against_numpy() -> None:
    """3000 samples, more than are projected at once, in three parts. Tolerance: float32 sums, solved."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(3000, 6, generator=draw), torch.arange(3000) % 3
    head = adapted(6, 0, 1, 2, M=20)
    for part in (slice(0, 5), slice(5, 2000), slice(2000, 3000)):
        head.add(x[part], y[part])
    head.solve()
    h = np.maximum(x.numpy().astype(float) @ head.projection.numpy().astype(float), 0)
    weight = np.linalg.solve(h.T @ h + np.eye(20), h.T @ np.eye(3)[y.numpy()]).T
    np.testing.assert_allclose(head.weight.numpy(), weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("count", [12, 200])
def test_errors_of_every_ridge_against_solving_for_each(count: int) -> None:
    """Fewer samples than the 30 features, and more. Tolerance 1e-8 in float64."""
    draw = torch.Generator().manual_seed(0)
    h, held = (torch.randn(n, 30, generator=draw, dtype=torch.float64) for n in (count, 9))
    targets, held_targets = torch.eye(2)[torch.arange(count) % 2].double(), torch.eye(2)[torch.arange(9) % 2].double()
    ridges = (1e-3, 0.1, 1.0, 1e4)
    found = ridge_errors(h, targets, held, held_targets, ridges)
    for error, ridge in zip(found, ridges, strict=True):
        weight = torch.linalg.solve(h.T @ h + ridge * torch.eye(30, dtype=torch.float64), h.T @ targets)
        torch.testing.assert_close(error, (held @ weight - held_targets).square().mean(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_the_ridge_is_the_best_on_what_was_held_out(seed: int) -> None:
    """Solved for every ridge from 1e-3 on; below, float64 has too few digits. Those held out lie anywhere."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(60, 4, generator=draw)
    y, held_out = (x[:, 0] + torch.randn(60, generator=draw) > 0).long(), torch.randperm(60, generator=draw)[:12]
    head = adapted(4, 0, 1, M=64, ridge=None)
    head.choose_ridge(x, y, held_out)
    kept = torch.tensor([i for i in range(60) if i not in held_out.tolist()])
    h, targets = head.project(x).double(), torch.eye(2)[y].double()
    errors = {}
    for ridge in RIDGES[5:]:
        square = h[kept].T @ h[kept] + ridge * torch.eye(64, dtype=torch.float64)
        weight = torch.linalg.solve(square, h[kept].T @ targets[kept])
        errors[ridge] = float((h[held_out] @ weight - targets[held_out]).square().mean())
    assert float(head.chosen) == min(errors, key=lambda ridge: errors[ridge])
    assert errors[float(head.chosen)] < errors[RIDGES[5]]
    assert RIDGES[0] == pytest.approx(1e-8)
    assert RIDGES[-1] == pytest.approx(1e8)


@pytest.mark.parametrize(("wrong", "start"), [({"M": 0}, "M 0 < 1"), ({"ridge": 0.0}, "ridge 0.0 is not above 0")])
def test_bad_values(wrong: dict[str, float], start: str) -> None:
    with pytest.raises(ValueError, match=f"^{start}"):
        RanPACClassifier(3, **{"M": 4} | wrong)
