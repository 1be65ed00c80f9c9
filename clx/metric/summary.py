"""Numbers that sum up an accuracy matrix.

R [N + 1, T]: row 0 before training, row i after experience i; the formulas count i and j from 1, without row 0.
Each function returns None where its value is undefined: an entry that it needs was not measured, or the
matrix is not one row for each test set (joint training has one row).
"""

from __future__ import annotations

import numpy as np

from clx.metric.matrix import Matrix


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _square(matrix: Matrix) -> bool:
    return matrix.shape[0] == matrix.shape[1] + 1


def average_accuracy(matrix: Matrix) -> float | None:
    """mean_j R[N, j]: each experience weighs the same."""
    return _defined(matrix[-1].mean()) if len(matrix) > 1 else None


def average_incremental_accuracy(matrix: Matrix) -> float | None:
    """mean_i mean_{j <= i} R[i, j]. Rebuffi et al. 2017, arXiv:1611.07725."""
    if not _square(matrix):
        return None
    return _defined(np.mean([matrix[i, :i].mean() for i in range(1, len(matrix))]))


def forgetting(matrix: Matrix) -> float | None:
    """mean_{j < N} (max_{j <= i < N} R[i, j] - R[N, j]). Chaudhry et al. 2018, arXiv:1801.10112, Eq. 3."""
    last = len(matrix) - 1
    if not _square(matrix) or last < 2:
        return None
    return _defined(np.mean([matrix[j + 1 : last, j].max() - matrix[last, j] for j in range(last - 1)]))


def backward_transfer(matrix: Matrix) -> float | None:
    """mean_{j < N} (R[N, j] - R[j, j]). Lopez-Paz & Ranzato 2017, arXiv:1706.08840, Eq. 3."""
    last = len(matrix) - 1
    if not _square(matrix) or last < 2:
        return None
    return _defined(np.mean([matrix[last, j] - matrix[j + 1, j] for j in range(last - 1)]))


def forward_transfer(matrix: Matrix) -> float | None:
    """mean_{j > 1} (R[j - 1, j] - R[0, j]). Lopez-Paz & Ranzato 2017, Eq. 4, row 0 as its random baseline."""
    last = len(matrix) - 1
    if not _square(matrix) or last < 2:
        return None
    return _defined(np.mean([matrix[j, j] - matrix[0, j] for j in range(1, last)]))


def learning_accuracy(matrix: Matrix) -> float | None:
    """mean_j R[j, j]. Riemer et al. 2019, arXiv:1810.11910."""
    if not _square(matrix):
        return None
    return _defined(np.mean([matrix[j + 1, j] for j in range(len(matrix) - 1)]))


def accuracy_so_far(matrix: Matrix) -> list[float]:
    """mean_{j <= i} R[i, j] after each experience i; NaN where one of them was not measured.

    Where test sets and experiences do not pair up (joint training): the mean of those measured.
    """
    if _square(matrix):
        return [float(matrix[i, :i].mean()) for i in range(1, len(matrix))]
    measured = [row[~np.isnan(row)] for row in matrix[1:]]
    return [float(row.mean()) if len(row) else float("nan") for row in measured]


METRICS = {
    function.__name__: function
    for function in (
        average_accuracy,
        average_incremental_accuracy,
        forgetting,
        backward_transfer,
        forward_transfer,
        learning_accuracy,
    )
}


def summary(matrix: Matrix) -> dict[str, float | None]:
    """Every metric by name; None where undefined."""
    return {name: function(matrix) for name, function in METRICS.items()}
