"""Means over seeds and their intervals."""

from __future__ import annotations

import math

import pytest

from clx.metric.interval import Estimate, estimate, student_t_quantile

# The published table of Student's t, two-sided (e.g. NIST/SEMATECH e-Handbook, 1.3.6.7.2), three decimals.
TABLE = {
    0.90: {1: 6.314, 2: 2.920, 5: 2.015, 10: 1.812, 30: 1.697, 100: 1.660},
    0.95: {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 19: 2.093, 30: 2.042, 100: 1.984},
    0.99: {1: 63.657, 2: 9.925, 4: 4.604, 9: 3.250, 30: 2.750, 100: 2.626},
}


@pytest.mark.parametrize(("level", "degrees"), [(level, degrees) for level in TABLE for degrees in TABLE[level]])
def test_published_quantiles(level: float, degrees: int) -> None:
    """Tolerance: half a unit of the table's last digit."""
    assert student_t_quantile(level, degrees) == pytest.approx(TABLE[level][degrees], abs=5.001e-4)


@pytest.mark.parametrize("level", [0.01, 0.5, 0.95, 0.999])
def test_closed_forms(level: float) -> None:
    """1 degree is Cauchy's: P = 2 / pi * atan(t), so t = tan(pi * level / 2).

    2 degrees: P = t / sqrt(2 + t^2), so t = level * sqrt(2 / (1 - level^2)). Tolerance: six digits.
    """
    assert student_t_quantile(level, 1) == pytest.approx(math.tan(math.pi * level / 2), rel=1e-6)
    assert student_t_quantile(level, 2) == pytest.approx(level * math.sqrt(2 / (1 - level**2)), rel=1e-6)


@pytest.mark.parametrize(("level", "degrees"), [(0.95, 0), (0.0, 3), (1.0, 3), (-0.1, 3), (1.5, 3)])
def test_quantiles_that_do_not_exist(level: float, degrees: int) -> None:
    with pytest.raises(ValueError, match=f"^degrees {degrees} and level {level}:"):
        student_t_quantile(level, degrees)


@pytest.mark.parametrize(
    ("values", "level", "mean", "std", "half_width"),
    [
        # deviations -0.04, 0, 0.04: std = sqrt(0.0032 / 2) = 0.04; t(2) = 4.3027; 4.3027 * 0.04 / sqrt(3) = 0.09937
        ([0.70, 0.74, 0.78], 0.95, 0.74, 0.04, 0.09937),
        # the same at 90 %: t(2) = 2.9200; 2.9200 * 0.04 / sqrt(3) = 0.06743
        ([0.70, 0.74, 0.78], 0.90, 0.74, 0.04, 0.06743),
        # deviations -0.1, 0.1: std = sqrt(0.02 / 1) = 0.141421; t(1) = 12.7062; 12.7062 * 0.141421 / sqrt(2) = 1.27062
        ([0.4, 0.6], 0.95, 0.5, 0.141421, 1.27062),
        # deviations -2 to 2: std = sqrt(10 / 4) = 1.581139; t(4) = 2.776445; 2.776445 * 1.581139 / sqrt(5) = 1.963243
        ([1.0, 2.0, 3.0, 4.0, 5.0], 0.95, 3.0, 1.581139, 1.963243),
        # seeds that agree
        ([0.5, 0.5, 0.5], 0.95, 0.5, 0.0, 0.0),
    ],
)
def test_estimate(values: list[float], level: float, mean: float, std: float, half_width: float) -> None:
    """Tolerance: 1e-5, the digits that are written."""
    found = estimate(values, level)
    assert found.n == len(values)
    assert (found.mean, found.std, found.half_width) == pytest.approx((mean, std, half_width), abs=1e-5)


def test_the_level_is_95_percent() -> None:
    assert estimate([0.70, 0.74, 0.78]) == estimate([0.70, 0.74, 0.78], 0.95)


def test_too_few_values() -> None:
    """One value has a mean but no deviation; none has neither."""
    assert estimate([0.3]) == Estimate(n=1, mean=0.3, std=None, half_width=None)
    assert estimate([]) == Estimate(n=0, mean=None, std=None, half_width=None)
