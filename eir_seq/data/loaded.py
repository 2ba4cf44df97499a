"""The checked rows of an experiment, and where they are in their files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from eir_seq.data.missing import said
from eir_seq.data.readers.base import RawTable
from eir_seq.data.rows import ID, CheckedRows
from eir_seq.data.stream.table import StreamedTable
from eir_seq.errors import Fault, UserError
from eir_seq.outputs.base import named_rows
from eir_seq.rows import Rows

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SkippedRow:
    """A row that was left out because of `data.on_bad_row=skip`; `place` is its file and line or row, `position` the
    row of the file, counted from 0."""

    id: str
    split: str
    place: str
    reason: str
    position: int


@dataclass(frozen=True)
class Located:
    """Where the rows of a file are: their ids, and the rows of the file."""

    ids: pa.ChunkedArray
    rows: Sequence[int]
    raw: RawTable

    @classmethod
    def of(cls, part: CheckedRows) -> Self:
        """Keeps none of the columns but the ids."""
        return cls(part.table.column(ID), part.kept, replace(part.raw, table=part.raw.table.slice(0, 0)))

    def place(self, row_id: str) -> str | None:
        """The file, and line or row, of a row; None if it is not among them."""
        place = pc.index(self.ids, row_id).as_py()
        return None if place < 0 else self.raw.place(self.rows[place])


@dataclass(frozen=True)
class Splits:
    """The checked rows of an experiment.

    Each split has the column `id` (text, unique over all splits), the inputs' columns and the classes as text (lists
    and objects as JSON), and the numbers to be predicted as float64; a missing label, where labels are optional, is
    None.
    """

    train: Rows | None
    validation: Rows | None
    test: Rows | None
    fingerprint: str
    files: tuple[dict[str, Any], ...] = ()
    skipped: tuple[SkippedRow, ...] = ()
    warnings: tuple[str, ...] = ()
    """What can be used and yet looks wrong: rows that quotes hold together, classes that are spelled alike."""
    missing: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By split and config path of an input or output: how many rows lack it (`data.on_missing: keep`)."""
    located: tuple[Located, ...] = ()
    """Where the rows of each file are."""
    stream: StreamedTable | None = None
    """The training rows if they are streamed; `train` is then the sample that inputs and outputs are fitted on."""

    @property
    def counts(self) -> dict[str, int]:
        """The rows of each split; training rows that are streamed and not counted are left out."""
        found: dict[str, int | None] = {name: part.num_rows for name, part in self.items()}
        if self.stream is not None:
            found["train"] = self.stream.num_rows
        return {name: rows for name, rows in found.items() if rows is not None}

    @contextmanager
    def locating(self) -> Iterator[None]:
        """Adds file and line of the rows that faults name by their ids."""
        try:
            yield
        except UserError as error:
            raise UserError(*(_with_place(fault, self.located) for fault in error.faults)) from None

    def items(self) -> list[tuple[str, Rows]]:
        """The splits that exist, by name."""
        parts = ((name, getattr(self, name)) for name in SPLITS)
        return [(name, part) for name, part in parts if part is not None]

    def describe(self) -> dict[str, Any]:
        """For the manifest: the files with their hashes, the rows of each split, what was left out."""
        return {
            "fingerprint": self.fingerprint,
            "rows": self.counts,
            "files": list(self.files),
            "skipped": len(self.skipped),
            "warnings": list(self.warnings),
            **({"missing": {name: dict(found) for name, found in self.missing.items()}} if self.missing else {}),
        }

    @property
    def said_missing(self) -> list[str]:
        """What rows lack, for people: a line for each input and output."""
        return said(self.missing, {name: part.num_rows for name, part in self.items()})


def _with_place(fault: Fault, located: Sequence[Located]) -> Fault:
    """The same with file and line of the rows that it names."""
    named = named_rows(fault.message)
    places = [place for row in named for part in located if (place := part.place(row)) is not None]
    return fault if fault.source or not places else replace(fault, source=", ".join(dict.fromkeys(places)))
