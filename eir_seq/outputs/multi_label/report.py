"""What a report says about multi-label classification."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from eir_seq.outputs.classes.report import add_curves, probability_calibration
from eir_seq.outputs.classes.statistics import precision_recall_curve, roc_curve
from eir_seq.outputs.reporting.sections import Cell, Predicted, Section, Table, Worst, WorstRow


def section(given: Predicted) -> Section | None:
    """ROC and precision-recall curves, calibration, a table of labels, and the rows with the largest loss."""
    name, labels = given.name, given.described.get("classes")
    if f"{name}_true" not in given or not isinstance(labels, Mapping):
        return None
    names = list(labels)
    true, predicted = (_indicators(given[column], names) for column in (f"{name}_true", name))
    known = np.ones_like(true)
    if f"{name}_unknown" in given:
        known = ~_indicators(given[f"{name}_unknown"], names)
    probabilities = np.stack([given.numbers(f"{name}_p({label})") for label in names], axis=1)
    columns = [
        (true[known[:, i], i], predicted[known[:, i], i], probabilities[known[:, i], i]) for i in range(len(names))
    ]
    rocs = [roc_curve(yes, scores) for yes, _, scores in columns]
    recalls = [precision_recall_curve(yes, scores) for yes, _, scores in columns]
    found = Section(heading="Labels")
    if any(rocs):
        add_curves(found, names, rocs, recalls, what="label")
    else:
        found.notes.append("Of each label, all rows have it or none has: curves are not defined.")
    found.plots.append(probability_calibration(true[known], probabilities[known]))
    thresholds = given.described.get("thresholds")
    if isinstance(thresholds, Mapping):
        found.notes.append("A label is predicted above its threshold, which was chosen on the validation rows.")
    rows: list[Sequence[Cell]] = []
    for index, label in enumerate(names):
        yes, guess, _ = columns[index]
        hits, there, guessed = int((yes & guess).sum()), int(yes.sum()), int(guess.sum())
        roc, recall = rocs[index], recalls[index]
        rows.append(
            (
                label,
                there,
                guessed,
                float(thresholds[label]) if isinstance(thresholds, Mapping) else 0.5,
                hits / guessed if guessed else None,
                hits / there if there else None,
                2 * hits / (there + guessed) if there + guessed else None,
                roc.area if roc else None,
                recall.area if recall else None,
            )
        )
    titles = ["Label", "Rows", "Predicted", "Threshold", "Precision", "Recall", "F1", "AUROC", "AP"]
    found.tables.append(Table("By label", titles, rows))

    def worst(position: int, row: WorstRow) -> Worst:
        wrong = bool(((true != predicted) & known)[position].any())
        expected, guess = (_joined(given[column][position]) for column in (f"{name}_true", name))
        return Worst(row, expected, guess, f"{row.error:.3f}", wrong)

    found.worst, found.worst_measure = given.worst_rows(worst), "Mean loss"
    return found


def _indicators(cells: Sequence[str], names: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Which labels the JSON lists of a column name, (rows, labels)."""
    index = {name: position for position, name in enumerate(names)}
    found = np.zeros((len(cells), len(names)), bool)
    for row, cell in enumerate(cells):
        found[row, [index[label] for label in json.loads(cell)]] = True
    return found


def _joined(cell: str) -> str:
    return ", ".join(json.loads(cell)) or "none"
