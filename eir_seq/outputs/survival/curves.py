"""Curves of right-censored times: Kaplan-Meier and Breslow estimators, as step functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eir_seq.config.strict import Strict

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Steps(Strict):
    """A function that changes at some times and is constant between them; it has the new value at each of them.

    Example:
        >>> Steps(start=1.0, times=[2.0, 5.0], values=[0.5, 0.0])([0, 2, 3, 9]).tolist()
        [1.0, 0.5, 0.5, 0.0]
    """

    start: float
    """Its value before the first time."""
    times: list[float]
    values: list[float]

    def __call__(self, times: Sequence[float] | Floats) -> Floats:
        """Its values at some times."""
        values = np.array([self.start, *self.values])
        return values[np.searchsorted(np.array(self.times), np.asarray(times), side="right")]

    def subsampled(self, most: int) -> Steps:
        """At most that many of its steps, for a plot."""
        every = max(1, -(-len(self.times) // most))
        return Steps(start=self.start, times=self.times[::every], values=self.values[::every])


def kaplan_meier(time: Floats, event: Mask, *, censoring: bool = False) -> Steps:
    """The share of rows without an event after each time (Kaplan & Meier 1958).

    With `censoring` that of rows which would not be censored; at one time, events come before censoring.

    Args:
        time: of the event or of censoring, (rows,).
        event: whether there was one, (rows,).
        censoring: estimate the distribution of censoring.

    Example:
        >>> kaplan_meier(np.array([1.0, 2.0, 2.0, 3.0]), np.array([True, True, False, True])).values
        [0.75, 0.5, 0.0]
    """
    distinct, place = np.unique(time, return_inverse=True)
    leaving = np.bincount(place, minlength=len(distinct))
    events = np.bincount(place[event], minlength=len(distinct))
    at_risk = len(time) - leaving.cumsum() + leaving
    if censoring:
        at_risk, events = at_risk - events, leaving - events
    there = events > 0
    values = np.cumprod(1 - events[there] / at_risk[there])
    return Steps(start=1.0, times=distinct[there].tolist(), values=values.tolist())


def breslow(log_hazard: Floats, time: Floats, event: Mask) -> Steps:
    """The cumulative baseline hazard of a Cox model (Breslow 1972): that of a row whose log hazard is 0.

    Args:
        log_hazard: relative to the baseline, (rows,).
        time: of the event or of censoring, (rows,).
        event: whether there was one, (rows,).

    Example:
        >>> breslow(np.zeros(2), np.array([1.0, 2.0]), np.array([True, True])).values
        [0.5, 1.5]
    """
    distinct, place = np.unique(time, return_inverse=True)
    highest = float(log_hazard.max())
    weights = np.bincount(place, np.exp(log_hazard - highest), len(distinct))
    at_risk = weights[::-1].cumsum()[::-1]
    events = np.bincount(place[event], minlength=len(distinct))
    there = events > 0
    # divided in logarithms: where few rows are left, their weights may be very small
    values = np.cumsum(np.exp(np.log(events[there]) - np.log(at_risk[there]) - highest))
    return Steps(start=0.0, times=distinct[there].tolist(), values=values.tolist())


def incidence(time: Floats, event: Mask, followed: Mask) -> Steps:
    """The share of rows that had an event until each time, where others may compete (Aalen & Johansen 1978).

    Without competing events it is 1 less the Kaplan-Meier curve.

    Args:
        time: of the event, of a competing one or of censoring, (rows,).
        event: whether there was the event, (rows,).
        followed: whether the row was not censored: it had the event or a competing one, (rows,).

    Example:
        >>> time, event = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, False])
        >>> incidence(time, event, np.array([True, True, True, False])).values
        [0.25, 0.5]
    """
    distinct, place = np.unique(time, return_inverse=True)
    leaving = np.bincount(place, minlength=len(distinct))
    at_risk = len(time) - leaving.cumsum() + leaving
    left = np.cumprod(1 - np.bincount(place[followed], minlength=len(distinct)) / at_risk)
    events = np.bincount(place[event], minlength=len(distinct))
    values = np.cumsum(np.concatenate([[1.0], left[:-1]]) * events / at_risk)
    there = events > 0
    return Steps(start=0.0, times=distinct[there].tolist(), values=values[there].tolist())
