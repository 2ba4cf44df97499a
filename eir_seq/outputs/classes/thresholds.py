"""Decision thresholds that maximize a metric on given rows.

A row is predicted as the class with the highest score; a threshold is a shift of one class's score against the others.
All shifts that change a decision are tried, so that the best one of a single class is found exactly (as Lipton et al.
2014, arXiv:1402.1892, for F1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDS = 5
"""Passes over the classes, at most: with several, each one's best shift depends on the others'."""


def best_shifts(scores: Floats, target: NDArray[np.int64], metric: str, of: int | None = None) -> Floats:
    """The shift of each class's scores, (classes,), with which the decisions maximize a metric on these rows.

    One class after another gets its best shift, until none improves the metric (coordinate ascent). Of shifts that are
    equally good the one nearest to zero is taken, and a class that cannot improve the metric keeps its own.

    Args:
        scores: of which the highest decides, such as log probabilities, (rows, classes).
        target: classes of the rows, (rows,).
        metric: one of `DECISION_METRICS` of `eir_seq.outputs.classes.names`.
        of: the class whose F1 is meant; the mean over classes if absent.

    Example:
        >>> import numpy as np
        >>> log = np.log([[0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.9, 0.1]])
        >>> shifts = best_shifts(log, np.array([0, 1, 1, 0]), "f1")
        >>> (log + shifts).argmax(axis=1).tolist()
        [0, 1, 1, 0]
    """
    classes = scores.shape[1]
    shifts = np.zeros(classes)
    best = -np.inf
    for _ in range(ROUNDS):
        before = best
        for index in range(classes) if classes > 2 else (1,):
            shift, best = best_shift(scores + shifts, target, index, metric, of)
            shifts[index] += shift
        if not best > before:
            break
    return shifts


def best_shift(
    scores: Floats, target: NDArray[np.int64], index: int, metric: str, of: int | None = None
) -> tuple[float, float]:
    """The best shift of one class's scores, and the value of the metric with it; arguments as of `best_shifts`."""
    classes = scores.shape[1]
    others = scores.copy()
    others[:, index] = -np.inf
    runner_up = others.argmax(axis=1)
    margin = others.max(axis=1) - scores[:, index]  # a larger shift than this one decides for the class
    order = np.argsort(margin, kind="stable")
    margin, runner_up, target = margin[order], runner_up[order], target[order]
    true = np.bincount(target, minlength=classes)
    # After the first j rows have changed to the class, for each j: decisions and right decisions by class.
    ends = np.concatenate([[0], np.flatnonzero(np.diff(margin, append=np.inf)) + 1])
    lost = np.zeros((len(target), classes))
    lost[np.arange(len(target)), runner_up] = 1
    hits = (lost * (runner_up == target)[:, None]).sum(axis=0) - _before(lost * (runner_up == target)[:, None], ends)
    predicted = lost.sum(axis=0) - _before(lost, ends)
    hits[:, index] = _before((target == index)[:, None].astype(float), ends)[:, 0]
    predicted[:, index] = ends
    values = _METRICS[metric](hits, predicted, true.astype(float))
    if metric == "f1":
        values = _mean(values) if of is None else np.nan_to_num(values[:, of])
    found: Floats = values
    low, high = margin[ends[:-1]], margin[ends[1:] - 1]  # of each group of equal margins, one value
    assert np.array_equal(low, high)
    edges = np.concatenate([[low[0] - 1.0], (low[:-1] + low[1:]) / 2, [low[-1] + 1.0]])
    # No shift is a candidate, too: it lies within one of the intervals.
    interval = int(np.searchsorted(low, 0.0, side="left"))
    edges[interval] = 0.0 if interval == len(low) or low[interval] > 0 else edges[interval]
    value = found.max()
    tied = np.flatnonzero(found >= value - 1e-12)
    chosen = tied[np.abs(edges[tied]).argmin()]
    return float(edges[chosen]), float(found[chosen])


def _before(values: Floats, ends: NDArray[np.int64]) -> Floats:
    """The sums of the first rows, as many as each of `ends`, (ends, classes)."""
    return np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0)])[ends]


def _accuracy(hits: Floats, predicted: Floats, true: Floats) -> Floats:
    del predicted
    return np.asarray(hits.sum(axis=1) / true.sum())


def _balanced_accuracy(hits: Floats, predicted: Floats, true: Floats) -> Floats:
    del predicted
    there = true > 0
    return np.asarray((hits[:, there] / true[there]).mean(axis=1))


def _f1(hits: Floats, predicted: Floats, true: Floats) -> Floats:
    """By class; nan where a class is neither among the rows nor predicted."""
    total = predicted + true
    return np.where(total > 0, 2 * hits / np.maximum(total, 1), np.nan)


def _mean(values: Floats) -> Floats:
    return np.asarray(np.nanmean(values, axis=1))


def _mcc(hits: Floats, predicted: Floats, true: Floats) -> Floats:
    total = true.sum()
    agreement = hits.sum(axis=1) * total - predicted @ true
    spread = (total**2 - (predicted**2).sum(axis=1)) * (total**2 - (true**2).sum())
    return np.where(spread > 0, agreement / np.sqrt(np.maximum(spread, 1e-300)), 0.0)


_METRICS = {"accuracy": _accuracy, "balanced_accuracy": _balanced_accuracy, "f1": _f1, "mcc": _mcc}
