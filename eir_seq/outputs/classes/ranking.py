"""AUROC and average precision of many rows in little memory: the numbers of torchmetrics, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

POINTS = 1 << 16
"""Rows whose points of a curve are computed at once."""


def auroc_and_average_precision(scores: Tensor, positive: Tensor) -> tuple[float, float]:
    """The areas below the ROC curve and the precision-recall curve, which have a point for each distinct score.

    What ``binary_auroc`` and ``binary_average_precision`` of torchmetrics give. Those take 70 bytes a row, as they
    sort row numbers and hold each curve in 64 bits; here it is the sorted scores and one number per point and area.

    Args:
        scores: (rows,), on the CPU.
        positive: (rows,) bool, of which some are true and some are not.

    >>> area, precision = auroc_and_average_precision(torch.tensor([0.1, 0.4, 0.4]), torch.tensor([False, False, True]))
    >>> area, precision
    (0.75, 0.5)
    """
    ranked, hits = np.sort(scores.numpy()), np.sort(scores.numpy()[positive.numpy()])
    points = 1 + int(np.count_nonzero(ranked[1:] != ranked[:-1]))
    # Sums of float32 depend on the order of terms: that of torchmetrics, from the highest score down and up again.
    trapezoids, steps = torch.empty(points), torch.empty(points)
    positives, negatives = torch.tensor(len(hits)), torch.tensor(len(ranked) - len(hits))
    before, done = torch.zeros(2, 1), 0
    for true, false in _counts(ranked, hits):
        recall = torch.cat([before[0], true / positives])
        false_rate = torch.cat([before[1], false / negatives])
        part, done = slice(done, done + len(true)), done + len(true)
        trapezoids[part] = (recall[:-1] + recall[1:]) * (false_rate[1:] - false_rate[:-1])
        up = slice(points - done, points - done + len(true))
        steps[up] = ((recall[:-1] - recall[1:]) * (true / (true + false))).flip(0)
        before = torch.stack([recall[-1:], false_rate[-1:]])
    return float(trapezoids.sum() / 2), float(-steps.sum())


def _counts(ranked: NDArray[np.floating], hits: NDArray[np.floating]) -> Iterator[tuple[Tensor, Tensor]]:
    """By distinct score, from the highest down: how many positives and negatives have it or a higher one.

    Args:
        ranked: the scores of all rows, ascending.
        hits: those of the positive rows, ascending.
    """
    for end in range(len(ranked), 0, -POINTS):
        start = max(0, end - POINTS)
        first = np.ones(end - start, bool)  # of the rows with its score
        lowest = max(start, 1)
        first[lowest - start :] = ranked[lowest:end] != ranked[lowest - 1 : end - 1]
        places = start + np.flatnonzero(first)[::-1]
        true = len(hits) - np.searchsorted(hits, ranked[places])
        yield torch.from_numpy(true), torch.from_numpy(len(ranked) - places - true)
