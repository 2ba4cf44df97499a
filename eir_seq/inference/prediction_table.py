"""Read a table of predictions back (`eir_seq.outputs.predictions` writes it)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eir_seq.errors import Fault, UserError
from eir_seq.files import open_text


@dataclass(frozen=True)
class PredictionTable:
    """A table of predictions: the id of each row, and its columns by name, every value as text."""

    ids: list[str]
    columns: dict[str, list[str]]

    def select(self, rows: Sequence[int]) -> PredictionTable:
        """The rows at these positions."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return PredictionTable([self.ids[row] for row in rows], columns)


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
    return PredictionTable(columns.pop("id"), columns)
