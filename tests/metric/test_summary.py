"""Metrics of accuracy matrices, worked out by hand.

R: row 0 before training, rows 1 to 3 after each experience; i and j count from 1. Tolerance: 1e-12.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from clx.metric.matrix import Matrix, from_lists
from clx.metric.summary import METRICS, accuracy_so_far, summary

ROWS = [
    [0.10, 0.20, 0.30],
    [0.60, 0.25, 0.20],
    [0.90, 0.80, 0.50],
    [0.70, 0.50, 0.90],
]

EXPECTED = {
    # R[3, j]: (0.70 + 0.50 + 0.90) / 3
    "average_accuracy": 2.10 / 3,
    # rows: 0.60; (0.90 + 0.80) / 2 = 0.85; (0.70 + 0.50 + 0.90) / 3 = 0.70; (0.60 + 0.85 + 0.70) / 3
    "average_incremental_accuracy": 2.15 / 3,
    # j=1: max(0.60, 0.90) - 0.70 = 0.20; j=2: 0.80 - 0.50 = 0.30; mean
    "forgetting": 0.25,
    # j=1: 0.70 - 0.60 = 0.10; j=2: 0.50 - 0.80 = -0.30; mean
    "backward_transfer": -0.10,
    # j=2: R[1, 2] - R[0, 2] = 0.25 - 0.20 = 0.05; j=3: R[2, 3] - R[0, 3] = 0.50 - 0.30 = 0.20; mean
    "forward_transfer": 0.125,
    # diagonal: (0.60 + 0.80 + 0.90) / 3
    "learning_accuracy": 2.30 / 3,
}


def matrix(*rows: list[float]) -> Matrix:
    return np.array(rows, dtype=np.float64)


@pytest.mark.parametrize("name", EXPECTED)
def test_three_experiences(name: str) -> None:
    assert METRICS[name](matrix(*ROWS)) == pytest.approx(EXPECTED[name], abs=1e-12)


def test_summary_has_every_metric() -> None:
    found = summary(matrix(*ROWS))
    assert found == pytest.approx(EXPECTED, abs=1e-12)
    assert all(type(value) is float for value in found.values())


def test_forgetting_may_be_negative() -> None:
    """Two experiences: R[1, 1] - R[2, 1] = 0.4 - 0.7 = -0.3; the other way round as transfer; R[1, 2] - R[0, 2] = -0.1.

    The final row is no candidate for the maximum, or forgetting would be 0.
    """
    found = summary(matrix([0.0, 0.5], [0.4, 0.4], [0.7, 0.2]))
    assert found["forgetting"] == pytest.approx(-0.3, abs=1e-12)
    assert found["backward_transfer"] == pytest.approx(0.3, abs=1e-12)
    assert found["forward_transfer"] == pytest.approx(-0.1, abs=1e-12)


ALL = set(EXPECTED)


@pytest.mark.parametrize(
    ("entry", "undefined"),
    [
        ((0, 0), set()),  # no formula reads R[0, 1]
        ((1, 2), set()),  # nor R[1, 3], two experiences ahead
        ((0, 1), {"forward_transfer"}),
        ((1, 1), {"forward_transfer"}),
        ((1, 0), {"average_incremental_accuracy", "forgetting", "backward_transfer", "learning_accuracy"}),
        ((2, 0), {"average_incremental_accuracy", "forgetting"}),
        ((2, 1), {"average_incremental_accuracy", "forgetting", "backward_transfer", "learning_accuracy"}),
        ((3, 0), {"average_accuracy", "average_incremental_accuracy", "forgetting", "backward_transfer"}),
        ((3, 2), {"average_accuracy", "average_incremental_accuracy", "learning_accuracy"}),
    ],
)
def test_an_entry_that_was_not_measured(entry: tuple[int, int], undefined: set[str]) -> None:
    """The metrics that read it are None, the others keep their value."""
    rows = matrix(*ROWS)
    rows[entry] = math.nan
    found = summary(rows)
    assert {name for name, value in found.items() if value is None} == undefined
    for name in ALL - undefined:
        assert found[name] == pytest.approx(EXPECTED[name], abs=1e-12)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # joint training: one row for three test sets, (0.6 + 0.9 + 0.9) / 3 = 0.8
        ([[0.1, 0.2, 0.3], [0.6, 0.9, 0.9]], {"average_accuracy": 0.8}),
        # interrupted after two of three experiences: (0.9 + 0.8 + 0.5) / 3
        (ROWS[:3], {"average_accuracy": 2.2 / 3}),
        # before any training
        (ROWS[:1], {}),
        # a single experience
        (
            [[0.1], [0.7]],
            {"average_accuracy": 0.7, "average_incremental_accuracy": 0.7, "learning_accuracy": 0.7},
        ),
    ],
)
def test_other_shapes(rows: list[list[float]], expected: dict[str, float]) -> None:
    found = summary(matrix(*rows))
    assert {name: value for name, value in found.items() if value is not None} == pytest.approx(expected, abs=1e-12)
    assert set(found) == ALL


def test_accuracy_so_far_counts_the_experiences_trained() -> None:
    later = from_lists([[0.5, 0.5], [0.8, 0.1], [0.6, 0.4]])  # the 0.1 is of an experience still to come
    np.testing.assert_allclose(accuracy_so_far(later), [0.8, 0.5])
    gap = from_lists([[None, None], [None, None], [0.6, 0.4]])
    np.testing.assert_allclose(accuracy_so_far(gap), [np.nan, 0.5])
    joint = from_lists([[None, None, None], [0.9, 0.6, None]])
    np.testing.assert_allclose(accuracy_so_far(joint), [0.75])
