"""Differences over the same seeds, permutation tests and ranks: by hand, and against scipy's other routines."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from clx.metric.paired import difference, holm, ranks, sign_flip_p


def test_difference_is_paired_by_seed() -> None:
    """Seeds 1 to 3 are common: differences 0.1, 0.2, 0.3; mean 0.2, deviation 0.1, half width 4.3027 * 0.1 / sqrt(3).

    All signs alike is one of 2^3 patterns, its opposite another: p = 2 / 8. Tolerance: rounding.
    """
    found = difference({0: 9.0, 1: 0.6, 2: 0.8, 3: 1.0}, {1: 0.5, 2: 0.6, 3: 0.7, 4: 9.0})
    assert found.seeds == (1, 2, 3)
    assert found.estimate.mean == pytest.approx(0.2)
    assert found.estimate.std == pytest.approx(0.1)
    assert found.estimate.half_width == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)
    assert found.p == 0.25


def test_without_a_common_seed_nothing_is_said() -> None:
    found = difference({0: 1.0}, {1: 1.0})
    assert (found.estimate.n, found.estimate.mean, found.p) == (0, None, None)
    assert sign_flip_p([0.3]) == 1.0  # one pair: its opposite is as far from 0
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1.0


@pytest.mark.parametrize("n", [3, 6, 9])
def test_interval_and_p_against_scipy_and_brute_force(n: int) -> None:
    draw = np.random.default_rng(n)
    ours, theirs = draw.normal(0.7, 0.1, n), draw.normal(0.65, 0.1, n)
    found = difference(dict(enumerate(ours)), dict(enumerate(theirs)))
    low, high = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    mean, half = found.estimate.mean, found.estimate.half_width
    assert mean is not None
    assert half is not None
    assert (mean - half, mean + half) == pytest.approx((low, high))
    gaps = ours - theirs
    flipped = [np.mean(gaps * signs) for signs in itertools.product((1, -1), repeat=n)]
    as_far = sum(abs(value) >= abs(gaps.mean()) - 1e-12 for value in flipped)
    assert found.p == pytest.approx(as_far / 2**n)


def test_many_pairs_are_sampled_and_give_the_same_p_every_time() -> None:
    """30 pairs, far from 0: about that of the t test; 2^30 patterns are not tried. Tolerance: sampling."""
    values = np.random.default_rng(0).normal(0.04, 0.1, 30).tolist()
    p = sign_flip_p(values)
    assert p == sign_flip_p(values)
    assert p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)


def test_holm() -> None:
    """Sorted 0.01, 0.03, 0.04: times 3, 2, 1 = 0.03, 0.06, 0.04, and never below the one before: 0.03, 0.06, 0.06."""
    assert holm([0.04, None, 0.01, 0.03]) == pytest.approx([0.06, None, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_ranks_by_hand() -> None:
    """Two benchmarks, three methods: ranks 1, 2, 3 and 1, 2.5, 2.5 (a tie shares), means 1, 2.25, 2.75.

    q of three methods at 5 % is 2.343 (Demsar 2006, Table 5a), times sqrt(3 * 4 / (6 * 2)) = 1. Tolerance: one unit
    of its last digit.
    """
    found = ranks(np.array([[0.9, 0.8, 0.7], [0.9, 0.5, 0.5]]))
    assert found.mean == [1.0, 2.25, 2.75]
    assert found.critical_difference == pytest.approx(2.343, abs=1e-3)
    assert found.num_benchmarks == 2
    assert found.p == pytest.approx(stats.friedmanchisquare([0.9, 0.9], [0.8, 0.5], [0.7, 0.5]).pvalue)


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_values_are_the_published_ones(k: int, q: float) -> None:
    """Demsar 2006, Table 5a, alpha 0.05. Tolerance: one unit of its last digit."""
    scores = np.random.default_rng(0).random((4, k))
    assert ranks(scores).critical_difference / math.sqrt(k * (k + 1) / 24) == pytest.approx(q, abs=1e-3)


def test_ranks_need_two_of_each() -> None:
    with pytest.raises(ValueError, match=r"^scores of 1 benchmarks and 3 methods"):
        ranks(np.ones((1, 3)))
