"""Means over seeds and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """mean, sample standard deviation and half width of the interval of n values; None where n is too small."""

    n: int
    mean: float | None
    std: float | None
    half_width: float | None


def student_t_quantile(level: float, degrees: int) -> float:
    """t with P(|T| <= t) = level for Student's t of that many degrees of freedom."""
    from scipy.special import stdtrit  # noqa: PLC0415 - a quarter of a second that a single run need not wait

    if degrees < 1 or not 0 < level < 1:
        raise ValueError(f"degrees {degrees} and level {level}: need at least 1, and a level in (0, 1)")
    return float(stdtrit(degrees, (1 + level) / 2))


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Mean, deviation (n - 1) and t interval of values from independent seeds."""
    n = len(values)
    if n == 0:
        return Estimate(0, None, None, None)
    mean = float(np.mean(values))
    if n == 1:
        return Estimate(1, mean, None, None)
    std = float(np.std(values, ddof=1))
    return Estimate(n, mean, std, student_t_quantile(level, n - 1) * std / math.sqrt(n))
