"""What a report says about classification."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eir_seq.outputs.classes.report import add_classes, add_curves, add_least_certain, reliability
from eir_seq.outputs.classes.statistics import (
    calibration,
    class_rows,
    confusion_matrix,
    precision_recall_curve,
    roc_curve,
)
from eir_seq.outputs.reporting.plots import SERIES
from eir_seq.outputs.reporting.sections import Predicted, Section


def section(given: Predicted) -> Section | None:
    """ROC and precision-recall curves, calibration, confusion, a table of classes, and the least certain rows."""
    name = given.name
    if f"{name}_true" not in given:
        return None
    classes = given.described.get("classes")
    if not isinstance(classes, Mapping):
        return Section(notes=["The run did not come to note its classes."])
    names = list(classes)
    index = {label: position for position, label in enumerate(names)}
    true, guess = given[f"{name}_true"], given[name]
    targets, predicted = (np.array([index[label] for label in labels]) for labels in (true, guess))
    probabilities = np.stack([given.numbers(f"{name}_p({label})") for label in names], axis=1)
    confusion = confusion_matrix(targets, predicted, len(names))
    rocs = [roc_curve(targets == position, probabilities[:, position]) for position in range(len(names))]
    recalls = [
        precision_recall_curve(targets == position, probabilities[:, position]) for position in range(len(names))
    ]
    found = Section()
    if any(rocs):
        add_curves(found, names, rocs, recalls)
    else:
        found.notes.append(f"All rows are of class {true[0]}: ROC and precision-recall curves are not defined.")
    found.plots.append(reliability(calibration(targets, probabilities)))
    if thresholds := given.described.get("thresholds"):
        assert isinstance(thresholds, Mapping)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in list(thresholds.items())[:SERIES])
        more = f" and {len(names) - SERIES} more" if len(names) > SERIES else ""
        found.notes.append(
            "The class whose probability is largest as a multiple of its threshold is predicted. Thresholds, chosen on "
            f"the validation rows: {shown}{more}."
        )
    add_classes(found, class_rows(names, confusion, rocs, recalls), confusion)
    add_least_certain(found, given, probabilities, index)
    return found
