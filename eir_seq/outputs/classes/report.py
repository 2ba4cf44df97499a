"""What reports say about classes: a confusion matrix, a table of classes, the most frequent confusions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eir_seq.outputs.classes.statistics import ClassRow
from eir_seq.outputs.reporting.sections import Section, Share, Table

MAX_MATRIX = 30
"""Classes up to which the confusion matrix is shown whole; beyond, only its largest entries off the diagonal."""
MAX_CONFUSIONS = 10


def add_classes(section: Section, classes: Sequence[ClassRow], confusion: NDArray[np.int64]) -> None:
    """Add the tables of classes to a section; `confusion` has the true classes in rows."""
    names = [row.name for row in classes]
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    section.heading = "Classes"
    if len(names) <= MAX_MATRIX:
        section.matrix = [
            (name, [Share(int(count), float(share)) for count, share in zip(confusion[row], shares[row], strict=True)])
            for row, name in enumerate(names)
        ]
    columns = ["Class", "Rows", "Precision", "Recall", "F1", "AUROC", "AP"]
    section.tables.append(
        Table(
            "By class",
            columns,
            [
                (row.name, row.support, row.precision, row.recall, row.f1, row.auroc, row.average_precision)
                for row in classes
            ],
        )
    )
    off = confusion * (1 - np.eye(len(names), dtype=int))
    largest = np.argsort(-off, axis=None, kind="stable")[:MAX_CONFUSIONS]
    confused = [
        (names[row], names[column], int(off[row, column]), f"{100 * shares[row, column]:.1f} %")
        for row, column in zip(*np.unravel_index(largest, off.shape), strict=True)
        if off[row, column]
    ]
    if len(names) > 2 and confused:
        section.tables.append(
            Table("Most frequent confusions", ["True", "Predicted", "Rows", "Share of true"], confused, texts=2)
        )
