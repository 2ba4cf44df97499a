"""Metrics of right-censored times, weighted by the inverse probability of censoring (IPCW).

Weights come from the censoring distribution of the training rows. All are computed by sorting, in a memory that is
proportional to the rows: they are measured at each evaluation.
"""

from __future__ import annotations

import numpy as np
from scipy.integrate import trapezoid

from eir_seq.outputs.survival.curves import Floats, Mask, Steps, kaplan_meier


def inverse_probability(censoring: Steps, times: Floats) -> Floats:
    """1 / G(t), and 0 where no training row was followed so long."""
    share = censoring(times)
    return np.where(share > 0, 1 / np.where(share > 0, share, 1), 0.0)


def concordance(score: Floats, time: Floats, event: Mask, weight: Floats | None = None) -> float | None:
    """The share of comparable pairs in which the row with the earlier event has the higher score; ties count half.

    Without weights it is Harrell's (1982). With 1 / G(T) for weights, which are squared, it is that of Uno et al.
    (2011). A pair is comparable if one row has an event, and the other a later time, or the same time without an event.

    Args:
        score: higher for rows whose event is expected earlier, (rows,).
        time: of the event or of censoring, (rows,).
        event: whether there was one, (rows,).
        weight: of each row with an event, (rows,).

    Returns:
        None where no pair is comparable.

    Example:
        >>> concordance(np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]), np.array([True, True, False]))
        0.6666666666666666
    """
    level = 2 * np.unique(time, return_inverse=True)[1] + ~event
    rank = np.unique(score, return_inverse=True)[1]
    order = np.lexsort((rank, level))
    level, rank = level[order], rank[order]
    lower, alike = _later(rank)
    # Of rows of the same level none after has a lower rank; those of the same rank are not compared.
    group = level * len(rank) + rank
    alike = alike - (np.searchsorted(group, group, side="right") - np.arange(len(rank)) - 1)
    comparable = len(level) - np.searchsorted(level, level, side="right")
    weights = np.square(np.ones(len(rank)) if weight is None else weight[order]) * event[order]
    total = float((weights * comparable).sum())
    return float((weights * (lower + alike / 2)).sum()) / total if total > 0 else None


def _later(rank: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[Floats, Floats]:
    """How many later elements are lower than each, and how many are the same, as a merge sort counts them."""
    count, place = len(rank), np.arange(len(rank))
    lower, alike, half = np.zeros(count), np.zeros(count), 1
    while half < count:
        block, later = place // (2 * half), place // half % 2 == 1
        keys = np.sort(block[later] * count + rank[later])
        wanted = block[~later] * count
        start, below = (np.searchsorted(keys, x) for x in (wanted, wanted + rank[~later]))
        lower[~later] += below - start
        alike[~later] += np.searchsorted(keys, wanted + rank[~later], side="right") - below
        half *= 2
    return lower, alike


def area_under_curves(
    scores: Floats, time: Floats, event: Mask, times: Floats, weight: Floats
) -> tuple[Floats, float | None]:
    """AUC at each time, (times,), and their mean (Uno et al. 2007; Hung & Chiang 2010), None where all are undefined.

    At time t, rows with an event until t are compared with those still without one. The mean is weighted by how much
    the Kaplan-Meier curve of the rows falls from one time to the next.

    Args:
        scores: higher for rows whose event is expected earlier, (rows, times).
        time: of the event or of censoring, (rows,).
        event: whether there was one, (rows,).
        times: (times,), increasing.
        weight: 1 / G(T) of each row, (rows,).
    """
    found = np.full(len(times), np.nan)
    for number, (score, limit) in enumerate(zip(scores.T, times, strict=True)):
        cases, controls = event & (time <= limit), np.sort(score[time > limit])
        total = weight[cases].sum() * len(controls)
        if total > 0:
            below = np.searchsorted(controls, score[cases], side="left")
            above = np.searchsorted(controls, score[cases], side="right")
            found[number] = (weight[cases] * (below + above) / 2).sum() / total
    known = ~np.isnan(found)
    falls = -np.diff(kaplan_meier(time, event)(times[known]), prepend=1.0)
    return found, float((found[known] * falls).sum() / falls.sum()) if known.any() else None


def brier_scores(risk: Floats, time: Floats, event: Mask, followed: Mask, times: Floats, censoring: Steps) -> Floats:
    """The Brier score at each time (Graf et al. 1999), (times,).

    Args:
        risk: predicted probability of the event until each time, (rows, times).
        time: of the event or of censoring, (rows,).
        event: whether there was the event, (rows,).
        followed: whether the row was not censored: it had the event or a competing one, (rows,).
        times: (times,).
        censoring: distribution of censoring of the training rows.
    """
    weight, later = inverse_probability(censoring, time), inverse_probability(censoring, times)
    found = np.empty(len(times))
    for number, (predicted, limit) in enumerate(zip(risk.T, times, strict=True)):
        gone = time <= limit
        weights = np.where(gone, weight * followed, later[number])
        found[number] = (weights * (predicted - (gone & event)) ** 2).mean()
    return found


def integrated(values: Floats, times: Floats) -> float:
    """The mean of a function over the range of times, by the trapezoidal rule."""
    return float(trapezoid(values, times) / (times[-1] - times[0])) if len(times) > 1 else float(values[0])
