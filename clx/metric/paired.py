"""Whether one method is better than another: differences over the same seeds, and ranks over several benchmarks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clx.metric.interval import Estimate, estimate

EXACT = 13  # pairs up to which every pattern of signs is tried; beyond, as many at random


@dataclass(frozen=True)
class Difference:
    """A mean difference over n seeds that both have, its 95 % interval, and how likely one as large is by chance."""

    estimate: Estimate
    p: float | None  # two-sided; None without a pair
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Ranks:
    """Mean ranks (1 = best) of k methods over N benchmarks.

    critical_difference: mean ranks further apart differ at the 5 % level (Nemenyi); p: of Friedman's test that no
    two methods differ, None for two methods.
    """

    mean: list[float]
    critical_difference: float
    p: float | None
    num_benchmarks: int


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference:
    """ours - theirs, paired by seed; seeds that only one of the two has are left out."""
    seeds = tuple(sorted(ours.keys() & theirs.keys()))
    values = [ours[seed] - theirs[seed] for seed in seeds]
    return Difference(estimate(values), sign_flip_p(values) if values else None, seeds)


def sign_flip_p(values: Sequence[float]) -> float:
    """p of a mean as far from 0 as this one where the sign of each difference is a coin's: the paired permutation test.

    Fisher 1935, The Design of Experiments, Sec. 21. Exact up to 13 pairs, of which n give at best 2 / 2^n; beyond, the
    patterns are drawn, the same ones every time.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    if n <= EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        drawn = np.random.default_rng(0).integers(0, 2, (2**EXACT - 1, n))
        signs = np.vstack((np.ones(n), 1.0 - 2.0 * drawn))  # what was observed is one of the patterns
    sums = np.abs(signs @ sample)
    return float(np.mean(sums >= sums[0] * (1 - 1e-12)))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values adjusted for being several: Holm 1979; None stays None."""
    known = sorted((p, i) for i, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for done, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - done) * p))
        adjusted[i] = largest
    return adjusted


def ranks(scores: NDArray[np.float64], *, level: float = 0.95) -> Ranks:
    """scores [N benchmarks, k methods], larger = better; ties share their mean rank.

    Demsar 2006, JMLR 7, Sec. 3.2: critical difference = q sqrt(k (k + 1) / (6 N)), q the studentized range's
    quantile over sqrt(2). Raises ValueError for fewer than two benchmarks or methods.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range  # noqa: PLC0415

    count, k = scores.shape
    if count < 2 or k < 2:
        raise ValueError(f"scores of {count} benchmarks and {k} methods; need two of each")
    ranked = rankdata(-scores, axis=1)
    q = float(studentized_range.ppf(level, k, np.inf)) / math.sqrt(2)
    p = float(friedmanchisquare(*ranked.T).pvalue) if k > 2 else None
    return Ranks(ranked.mean(axis=0).tolist(), q * math.sqrt(k * (k + 1) / (6 * count)), p, count)
