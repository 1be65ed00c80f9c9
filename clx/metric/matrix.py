"""The accuracy matrix: rows after each experience, columns the test sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


class AccuracyMatrix:
    """R [train + 1, test] in [0, 1]: R[i, j] = accuracy on test set j after i experiences; NaN = not measured.

    `aware` is the same with predictions restricted to the classes of the sample's own experience.
    """

    def __init__(self, num_train: int, num_test: int) -> None:
        self.plain: Matrix = np.full((num_train + 1, num_test), np.nan)
        self.aware: Matrix = np.full((num_train + 1, num_test), np.nan)

    def set_row(self, after: int, plain: Sequence[float], aware: Sequence[float]) -> None:
        """Accuracies on every test set after that many experiences; rows are added where the stream goes on."""
        missing = after + 1 - len(self.plain)
        if missing > 0:
            more = np.full((missing, self.plain.shape[1]), np.nan)
            self.plain, self.aware = np.vstack((self.plain, more)), np.vstack((self.aware, more))
        self.plain[after], self.aware[after] = plain, aware


def to_list(row: Iterable[float]) -> list[float | None]:
    """One row of accuracies with None for what was not measured."""
    return [None if value != value else value for value in map(float, row)]  # noqa: PLR0124 - NaN alone differs from itself


def to_lists(matrix: Matrix) -> list[list[float | None]]:
    """For JSON: NaN becomes null."""
    return [to_list(row) for row in matrix]


def from_lists(rows: Sequence[Sequence[float | None]]) -> Matrix:
    """The matrix that to_lists wrote. Raises ValueError where it is not one of accuracies."""
    matrix = np.array([[np.nan if value is None else float(value) for value in row] for row in rows], dtype=np.float64)
    if matrix.ndim != 2 or np.any(matrix < 0) or np.any(matrix > 1):
        raise ValueError("not a matrix of accuracies in [0, 1]")
    return matrix
