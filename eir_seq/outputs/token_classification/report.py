"""What a report says about tags."""

from __future__ import annotations

import json

import numpy as np

from eir_seq.outputs.classes.report import add_classes
from eir_seq.outputs.classes.statistics import class_rows, confusion_matrix
from eir_seq.outputs.reporting.sections import Predicted, Section, Worst, WorstRow


def section(given: Predicted) -> Section | None:
    """Confusion of tags, a table of them, and the rows with the most wrong tags."""
    name = given.name
    if f"{name}_true" not in given:
        return None
    true, guess = ([json.loads(tags) for tags in given[column]] for column in (f"{name}_true", name))
    words = [pair for lists in zip(true, guess, strict=True) for pair in zip(*lists, strict=True)]
    read = [pair for pair in words if pair[1]]
    found = Section()
    if len(read) < len(words):
        found.notes.append(f"{len(words) - len(read)} of {len(words)} words were cut off and have no tag.")
    if read:
        names = sorted({tag for pair in read for tag in pair})
        index = {tag: position for position, tag in enumerate(names)}
        targets, predicted = (np.array([index[pair[side]] for pair in read]) for side in (0, 1))
        confusion = confusion_matrix(targets, predicted, len(names))
        add_classes(found, class_rows(names, confusion, [None] * len(names), [None] * len(names)), confusion)

    def worst(position: int, row: WorstRow) -> Worst:
        tags, tagged = true[position], guess[position]
        wrong = sum(one != other for one, other in zip(tags, tagged, strict=True))
        shown = " ".join(tag or "(cut)" for tag in tagged)
        return Worst(row, " ".join(tags), shown, f"{wrong} of {len(tags)} words", wrong > 0)

    found.worst = given.worst_rows(worst)
    return found
