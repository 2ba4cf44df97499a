"""The numbers of the report's tables and curves, from the predictions alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Points of a curve and the area that names it."""

    x: Floats
    y: Floats
    area: float


@dataclass(frozen=True)
class ClassRow:
    """One class in the table of classes; None if a value is undefined on these rows."""

    name: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None
    auroc: float | None
    average_precision: float | None


@dataclass(frozen=True)
class Calibration:
    """Accuracy against confidence of the predicted class, by bins of equal width."""

    edges: Floats
    counts: NDArray[np.int64]
    confidence: Floats
    """Mean confidence by bin; nan in empty bins."""
    accuracy: Floats
    """Share of right predictions by bin; nan in empty bins."""
    error: float
    """Expected calibration error (Guo et al. 2017): the mean gap, weighted by rows."""


def confusion_matrix(true: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Counts, (classes, classes): true class in rows, predicted class in columns."""
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def roc_curve(positive: NDArray[np.bool_], scores: Floats) -> Curve | None:
    """True positive rate over false positive rate; None where all rows are of one kind."""
    hits, misses = _cumulative(positive, scores)
    if not positive.any() or positive.all():
        return None
    x = np.concatenate([[0.0], misses / misses[-1]])
    y = np.concatenate([[0.0], hits / hits[-1]])
    return Curve(x, y, float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)))


def precision_recall_curve(positive: NDArray[np.bool_], scores: Floats) -> Curve | None:
    """Precision over recall, its area the average precision; None where all rows are of one kind."""
    hits, misses = _cumulative(positive, scores)
    if not positive.any() or positive.all():
        return None
    recall, precision = hits / hits[-1], hits / (hits + misses)
    area = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    return Curve(np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision]), area)


def mean_curve(curves: list[Curve], points: int = 200) -> Curve:
    """The mean of curves over the same x (macro average)."""
    x = np.linspace(0, 1, points)
    y = np.mean([np.interp(x, curve.x, curve.y) for curve in curves], axis=0)
    return Curve(x, y, float(np.mean([curve.area for curve in curves])))


def subsampled(curve: Curve, points: int = 400) -> Curve:
    """The same curve with at most that many points, its ends kept."""
    if len(curve.x) <= points:
        return curve
    keep = np.unique(np.linspace(0, len(curve.x) - 1, points).round().astype(int))
    return Curve(curve.x[keep], curve.y[keep], curve.area)


def calibration(true: NDArray[Any], probabilities: Floats, bins: int = 10) -> Calibration:
    """Calibration of the predicted class: true (rows,) class indices, probabilities (rows, classes)."""
    return binned(probabilities.max(axis=1), probabilities.argmax(axis=1) == true, bins)


def binned(confidence: Floats, right: NDArray[np.bool_], bins: int = 10) -> Calibration:
    """Calibration of probabilities, (n,), by what came true, (n,)."""
    edges = np.linspace(0, 1, bins + 1)
    # A confidence of exactly an edge belongs to the bin below it, so that 1 is in the last.
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(place, weights=confidence, minlength=bins) / counts
        accuracy = np.bincount(place, weights=right, minlength=bins) / counts
    error = float(np.nansum(np.abs(accuracy - mean_confidence) * counts) / counts.sum())
    return Calibration(edges, counts, mean_confidence, accuracy, error)


def class_rows(
    names: list[str], confusion: NDArray[np.int64], rocs: list[Curve | None], precision_recalls: list[Curve | None]
) -> list[ClassRow]:
    """The table of classes."""
    rows = []
    for index, name in enumerate(names):
        hits, support, predicted = confusion[index, index], confusion[index].sum(), confusion[:, index].sum()
        roc, precision_recall = rocs[index], precision_recalls[index]
        rows.append(
            ClassRow(
                name=name,
                support=int(support),
                predicted=int(predicted),
                precision=float(hits / predicted) if predicted else None,
                recall=float(hits / support) if support else None,
                f1=float(2 * hits / (support + predicted)) if support + predicted else None,
                auroc=roc.area if roc else None,
                average_precision=precision_recall.area if precision_recall else None,
            )
        )
    return rows


def _cumulative(positive: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """Positives and negatives at or above each distinct score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan))
    hits = np.cumsum(positive[order])[ends].astype(np.float64)
    return hits, ends + 1.0 - hits
