"""Mean and standard deviation of rows that are seen a few at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating[Any]]
CONSTANT = 1e-7
"""Deviations below this share of the mean are rounding errors (float32)."""


class Moments:
    """Mean and deviation over the first axis and others, without missing values (Chan et al. 1979).

    Args:
        axes: that are averaged over.

    Example:
        >>> moments = Moments((0,))
        >>> for rows in ([[1.0, 5.0], [3.0, np.nan]], [[5.0, 5.0]]):
        ...     moments.add(np.array(rows))
        >>> moments.mean.tolist(), moments.deviation.round(3).tolist()
        ([[3.0, 5.0]], [[1.633, 1.0]])
    """

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = axes
        self.count: Any = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, rows: Values) -> None:
        """Take in some rows, (rows, ...); NaN is a missing value."""
        known = ~np.isnan(rows)
        count = known.sum(axis=self.axes, keepdims=True)
        divisor = np.maximum(count, 1)
        mean = np.where(known, rows, 0.0).sum(axis=self.axes, keepdims=True, dtype=np.float64) / divisor
        squares = (np.where(known, rows - mean, 0.0) ** 2).sum(axis=self.axes, keepdims=True)
        total = self.count + count
        share = count / np.maximum(total, 1)
        difference = mean - self._mean
        self._mean = self._mean + difference * share
        self._squares = self._squares + squares + difference**2 * self.count * share
        self.count = total

    @property
    def mean(self) -> Values:
        """The means, with the first axis (1, ...); 0 where no value is known."""
        mean: Values = self._mean
        return mean

    @property
    def deviation(self) -> Values:
        """The standard deviations (of the population), likewise; 1 where values do not differ."""
        found = np.sqrt(self._squares / np.maximum(self.count, 1))
        deviation: Values = np.where(found > CONSTANT * np.abs(self._mean), found, 1.0)
        return deviation
