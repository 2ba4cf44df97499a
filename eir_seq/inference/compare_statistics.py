"""What a few repetitions say: mean, standard deviation, confidence interval, and a paired test of two settings."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Of several values: how many, their mean, sample standard deviation, and the confidence interval of the mean.

    `deviation`, `low` and `high` are None for a single value.
    """

    count: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.high is None else self.high - self.mean


@dataclass(frozen=True)
class PairedTest:
    """The paired t-test of two settings.

    Attributes:
        pairs: how many values have a partner.
        difference: mean of first minus second.
        low: lower end of its confidence interval.
        high: upper end.
        t: the statistic.
        p: two-sided.
    """

    pairs: int
    difference: float
    low: float
    high: float
    t: float
    p: float


def summary(values: Sequence[float], *, overlap: float = 0.0) -> Summary | None:
    """Mean, standard deviation and the 95 % confidence interval of the mean by Student's t; None of no values.

    Args:
        values: one per repetition.
        overlap: rows measured by rows trained on, of folds or random splits, whose training rows overlap: the variance
            of the mean is ``s² (1/n + overlap)`` then (Nadeau and Bengio 2003, doi:10.1023/A:1024068626366).

    Example:
        >>> found = summary([0.8, 0.9, 0.7])
        >>> round(found.mean, 3), round(found.deviation, 3), round(found.low, 3), round(found.high, 3)
        (0.8, 0.1, 0.552, 1.048)
    """
    if not values:
        return None
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Summary(1, mean, None, None, None)
    deviation = statistics.stdev(values)
    half = _quantile(len(values)) * deviation * math.sqrt(1 / len(values) + overlap)
    return Summary(len(values), mean, deviation, mean - half, mean + half)


def paired_test(first: Sequence[float], second: Sequence[float], *, overlap: float = 0.0) -> PairedTest | None:
    """The paired t-test of values of the same seeds and folds.

    Args:
        first: values of one setting.
        second: of the other, in the same order.
        overlap: see `summary`.

    Returns:
        None for fewer than two pairs, or if all differences are equal, so that there is no variance to test against.

    Example:
        >>> test = paired_test([0.81, 0.84, 0.80], [0.78, 0.80, 0.79])
        >>> test.pairs, round(test.difference, 4), round(test.p, 3)
        (3, 0.0267, 0.094)
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    if len(differences) < 2:
        return None
    mean, deviation = statistics.fmean(differences), statistics.stdev(differences)
    error = deviation * math.sqrt(1 / len(differences) + overlap)
    if error <= 1e-12 * max(map(abs, (*first, *second))):  # rounding alone
        return None
    from scipy.stats import t as student

    statistic = mean / error
    half = _quantile(len(differences)) * error
    p = 2 * float(student.sf(abs(statistic), len(differences) - 1))
    return PairedTest(len(differences), mean, mean - half, mean + half, statistic, p)


def _quantile(count: int) -> float:
    from scipy.stats import t as student

    return float(student.ppf((1 + CONFIDENCE) / 2, count - 1))
