"""Intervals and tests against SciPy, and by their formula where SciPy has none."""

from __future__ import annotations

import math
import statistics

import pytest
from scipy import stats

from eir_seq.inference.compare_statistics import paired_test, summary

FIRST, SECOND = [0.81, 0.84, 0.80, 0.86], [0.78, 0.80, 0.79, 0.85]


def test_the_interval_is_that_of_student() -> None:
    found = summary(FIRST)
    assert found is not None
    expected = stats.t.interval(0.95, 3, loc=statistics.fmean(FIRST), scale=stats.sem(FIRST))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.deviation == pytest.approx(statistics.stdev(FIRST))


def test_the_test_is_that_of_scipy() -> None:
    found, expected = paired_test(FIRST, SECOND), stats.ttest_rel(FIRST, SECOND)
    assert found is not None
    assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_overlapping_training_rows_widen_interval_and_test() -> None:
    """Nadeau and Bengio 2003: the variance of the mean is s² (1/n + rows tested / rows trained on)."""
    differences = [a - b for a, b in zip(FIRST, SECOND, strict=True)]
    found = paired_test(FIRST, SECOND, overlap=1 / 3)
    assert found is not None
    t = statistics.fmean(differences) / math.sqrt(statistics.variance(differences) * (1 / 4 + 1 / 3))
    assert found.t == pytest.approx(t)
    assert found.p == pytest.approx(2 * stats.t.sf(t, 3))
    plain, wide = summary(FIRST), summary(FIRST, overlap=1 / 3)
    assert plain is not None
    assert wide is not None
    assert wide.half == pytest.approx((plain.half or 0) * math.sqrt((1 / 4 + 1 / 3) / (1 / 4)))


def test_one_value_has_no_interval() -> None:
    found = summary([0.5])
    assert found is not None
    assert (found.mean, found.deviation, found.half) == (0.5, None, None)
    assert summary([]) is None


@pytest.mark.parametrize(("first", "second"), [([1.0], [2.0]), ([1.0, 2.0], [0.5, 1.5]), ([0.3, 0.3], [0.3, 0.3])])
def test_there_is_no_test_without_variance(first: list[float], second: list[float]) -> None:
    assert paired_test(first, second) is None
