"""Read a table of predictions back (`eir_seq.outputs.predictions` writes it)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eir_seq.errors import Fault, UserError
from eir_seq.files import open_text


@dataclass(frozen=True)
class PredictedColumns:
    """What the table says about one output, in row order."""

    predicted: list[str]
    true: list[str] | None
    """True values; absent where the predicted rows had no labels."""
    probabilities: dict[str, NDArray[np.float64]]
    """By class, in the order of the class indices; empty for regression."""
    scores: list[str] | None = None
    """Of texts that were written: their mean log-probability, "" where none was."""

    @property
    def is_classification(self) -> bool:
        """Whether the output has classes."""
        return bool(self.probabilities)

    @property
    def is_tags(self) -> bool:
        """Whether each value is a list of tags, as JSON."""
        return (
            self.scores is None
            and not self.probabilities
            and self.predicted[:1] != []
            and self.predicted[0].startswith("[")
        )


@dataclass(frozen=True)
class PredictionTable:
    """A table of predictions."""

    ids: list[str]
    outputs: dict[str, PredictedColumns]


def read_predictions(path: Path) -> PredictionTable:
    """The table in `path`.

    Raises:
        UserError: not a table of predictions.
    """
    with open_text(path) as file:
        reader = csv.reader(file)
        header = next(reader, [])
        rows = list(reader)
    if header[:1] != ["id"] or any(len(row) != len(header) for row in rows):
        raise UserError(Fault(str(path), "is not a table of predictions"))
    columns = {name: [row[index] for row in rows] for index, name in enumerate(header)}
    outputs = {}
    position = 1
    while position < len(header):
        true = None
        if header[position].endswith("_true") and header[position + 1 : position + 2] == [header[position][:-5]]:
            true = columns[header[position]]
            position += 1
        name = header[position]
        position += 1
        probabilities = {}
        while position < len(header) and header[position].startswith(f"{name}_p(") and header[position].endswith(")"):
            label = header[position][len(name) + 3 : -1]
            probabilities[label] = np.array(columns[header[position]], dtype=np.float64)
            position += 1
        scores = None
        if header[position : position + 1] == [f"{name}_score"]:
            scores = columns[header[position]]
            position += 1
        outputs[name] = PredictedColumns(columns[name], true, probabilities, scores)
    return PredictionTable(columns["id"], outputs)
