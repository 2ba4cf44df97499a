"""Read a table of predictions back (`eir_seq.outputs.predictions` writes it)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from eir_seq.errors import Fault, UserError
from eir_seq.files import open_text
from eir_seq.rows import Picked
from eir_seq.spool import ROWS_PER_BATCH, Packed


@dataclass(frozen=True)
class PredictionTable:
    """A table of predictions: the id of each row, and its columns by name, every value as text."""

    ids: Sequence[str]
    columns: Mapping[str, Sequence[str]]

    def select(self, rows: Sequence[int]) -> PredictionTable:
        """The rows at these positions."""
        return PredictionTable(Picked(self.ids, rows), {name: Picked(of, rows) for name, of in self.columns.items()})


def read_predictions(path: Path) -> PredictionTable:
    """The table in `path`; a large one lies in files, see `Packed`.

    Raises:
        UserError: not a table of predictions.
    """
    with open_text(path) as file:
        reader = csv.reader(file)
        header = next(reader, [])
        columns = [Packed() for _ in header]
        while rows := list(islice(reader, ROWS_PER_BATCH)):
            if any(len(row) != len(header) for row in rows):
                header = []
                break
            for packed, values in zip(columns, zip(*rows, strict=True), strict=True):
                packed.extend(values)
    if header[:1] != ["id"]:
        raise UserError(Fault(str(path), "is not a table of predictions"))
    ids, *others = (packed.values() for packed in columns)
    return PredictionTable(ids, dict(zip(header[1:], others, strict=True)))
