"""Which columns of the data an experiment reads, and what for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from eir_seq.config.outputs import (
    ClassificationOutputConfig,
    ColumnOutputBase,
    OutputConfig,
    Seq2SeqLmOutputConfig,
    TokenClassificationOutputConfig,
)
from eir_seq.config.schema import DataConfig, InputConfig, SequenceInputConfig
from eir_seq.errors import Fault

ID = "id"
"""The column of row ids in every split, whatever it was called in the file."""


@dataclass(frozen=True)
class Columns:
    """By role, the columns and the config key that names each.

    `texts` are read as they stand; `cells` hold lists, objects and names of files. Targets are `classes`, `numbers`,
    `tags` (a list per row) and `written` texts.
    """

    id: str | None
    groups: dict[str, str] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    cells: dict[str, str] = field(default_factory=dict)

    @property
    def targets(self) -> dict[str, str]:
        """Classes, numbers, tags and texts to be written."""
        return {**self.classes, **self.numbers, **self.tags, **self.written}

    @property
    def places(self) -> dict[str, str]:
        """All columns that a file must have; the id first."""
        named = {self.id: "data.id"} if self.id else {}
        return {**named, **self.groups, **self.targets, **self.texts, **self.cells}

    def clashes(self) -> list[Fault]:
        """Columns that have two roles."""
        inputs = {**self.texts, **self.cells}
        pairs = (
            (self.classes, "class", self.numbers),
            (self.classes, "class", inputs),
            (self.numbers, "number", inputs),
            (self.texts, "text", self.cells),
            (self.tags, "list of tags", {**inputs, **self.classes, **self.numbers}),
            (self.written, "text to be written", {**inputs, **self.classes, **self.numbers, **self.tags}),
        )
        faults = [
            Fault(place, f"column {column!r} is already read as a {kind} ({first[column]})")
            for first, kind, second in pairs
            for column, place in second.items()
            if column in first
        ]
        if self.id != ID and ID in self.places:
            message = f"{ID!r} is the name of the row ids; give the column another (data.rename)"
            faults.append(Fault(self.places[ID], message))
        return faults


def columns_of(data: DataConfig, inputs: Mapping[str, InputConfig], outputs: Mapping[str, OutputConfig]) -> Columns:
    """The columns that inputs, outputs and the draw of the validation rows read."""
    columns = Columns("id" if data.reads_sample and data.id is None else data.id)
    for name, source in inputs.items():
        place = f"inputs.{name}"
        words = not isinstance(source, SequenceInputConfig) or source.is_split_into_words
        (columns.cells if words else columns.texts)[source.column] = f"{place}.column"
        if not isinstance(source, SequenceInputConfig):
            continue
        if source.pair_column:
            columns.texts[source.pair_column] = f"{place}.pair_column"
        for kind, entry in source.tensors.given().items():
            if (column := getattr(entry, "column", None)) is not None:
                columns.cells.setdefault(column, f"{place}.tensors.{kind}.column")
    for name, output in outputs.items():
        if not isinstance(output, ColumnOutputBase):
            continue
        kind_of = {
            ClassificationOutputConfig: columns.classes,
            TokenClassificationOutputConfig: columns.tags,
            Seq2SeqLmOutputConfig: columns.written,
        }
        kind_of.get(type(output), columns.numbers)[output.column] = f"outputs.{name}.column"
    if data.group:
        columns.groups[data.group] = "data.group"
    if data.stratify and data.stratify != "auto":
        columns.groups[data.stratify] = "data.stratify"
    return columns
