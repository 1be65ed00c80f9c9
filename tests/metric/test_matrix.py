"""The accuracy matrix as it fills, and as lists for JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clx.metric.matrix import AccuracyMatrix, from_lists, to_lists


def test_nothing_is_measured_at_first() -> None:
    """Two experiences, three test sets: a row before training and two after."""
    matrix = AccuracyMatrix(2, 3)
    assert matrix.plain.shape == matrix.aware.shape == (3, 3)
    assert np.isnan(matrix.plain).all()
    assert np.isnan(matrix.aware).all()


def test_rows_are_set_by_experience() -> None:
    matrix = AccuracyMatrix(2, 2)
    matrix.set_row(2, [0.1, 0.2], [0.3, 0.4])
    matrix.set_row(0, [0.5, float("nan")], [0.6, 0.7])
    assert to_lists(matrix.plain) == [[0.5, None], [None, None], [0.1, 0.2]]
    assert to_lists(matrix.aware) == [[0.6, 0.7], [None, None], [0.3, 0.4]]


def test_a_row_can_be_measured_again() -> None:
    matrix = AccuracyMatrix(1, 1)
    matrix.set_row(1, [0.1], [0.2])
    matrix.set_row(1, [0.3], [0.4])
    assert (to_lists(matrix.plain), to_lists(matrix.aware)) == ([[None], [0.3]], [[None], [0.4]])


def test_rows_are_added_where_the_stream_goes_on() -> None:
    """Room for row 0; row 1 is the next, row 3 brings an unmeasured row 2 with it."""
    matrix = AccuracyMatrix(0, 2)
    matrix.set_row(1, [0.1, 0.2], [0.3, 0.4])
    matrix.set_row(3, [0.5, 0.6], [0.7, 0.8])
    assert to_lists(matrix.plain) == [[None, None], [0.1, 0.2], [None, None], [0.5, 0.6]]
    assert to_lists(matrix.aware) == [[None, None], [0.3, 0.4], [None, None], [0.7, 0.8]]


def test_lists_survive_json() -> None:
    rows = [[None, 0.25], [1.0, 0.0], [1 / 3, None]]
    matrix = from_lists(json.loads(json.dumps(rows)))
    assert matrix.shape == (3, 2)
    assert np.isnan(matrix[0, 0])
    assert matrix[2, 0] == 1 / 3
    assert to_lists(matrix) == rows


@pytest.mark.parametrize("rows", [[], [[1.1]], [[-0.1]], [[float("inf")]], [[0.5, None], [0.5, 2.0]]])
def test_lists_that_are_no_accuracies(rows: list[list[float | None]]) -> None:
    with pytest.raises(ValueError, match="not a matrix of accuracies"):
        from_lists(rows)


def test_rows_of_different_lengths_are_no_matrix() -> None:
    with pytest.raises(ValueError, match="shape"):
        from_lists([[0.5], [0.5, 0.5]])
