"""Rows that lack an input or a target (`data.on_missing: keep`): which they are, and how they are batched."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.config.inputs import InputBase
from eir_seq.config.outputs import OutputBase
from eir_seq.config.schema import ExperimentConfig
from eir_seq.modalities.base import LENGTH, RowSource
from eir_seq.randomness import Draw
from eir_seq.rows import Rows
from eir_seq.spool import filtered

Mask = NDArray[np.bool_]
RESOLUTION = 2**53
"""Equally likely values of a draw that is compared with a probability."""


@dataclass(frozen=True)
class Missing:
    """What rows of an experiment may lack.

    A row lacks an input if all columns that the input needs are null (all of its columns, if it can do without each),
    and a target if one of its columns is (of an output that takes part of them, if all are). A target of an output that
    reads the tokens of an input is missing, too, where that input is, and that of one that compares inputs where one of
    these is.

    Attributes:
        inputs: by input, the columns that it needs.
        outputs: by output, the columns of its target.
        token_inputs: for each output that reads tokens, the input that they are of.
        partial: outputs whose rows may lack some of their columns.
        loose: inputs that can do without any of their columns, though not without all.
        compared: for each output that reads vectors of inputs, those without which it has no target.
    """

    inputs: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, tuple[str, ...]]
    token_inputs: Mapping[str, str]
    partial: frozenset[str] = frozenset()
    loose: frozenset[str] = frozenset()
    compared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, config: ExperimentConfig) -> Missing | None:
        """What rows may lack; None if each has to have everything."""
        if config.data.on_missing == "error":
            return None
        needed = {name: _needed(declared) for name, declared in config.inputs.items()}
        inputs = {name: columns or tuple(config.inputs[name].columns()) for name, columns in needed.items()}
        outputs = {name: _needed(declared) for name, declared in config.outputs.items()}
        loose = frozenset(name for name, columns in needed.items() if not columns)
        partial = frozenset(name for name, declared in config.outputs.items() if declared.PARTIAL)
        names = list(config.inputs)
        compared = {name: tuple(config.outputs[name].needed_inputs(names)) for name in config.vector_inputs}
        return cls(inputs, outputs, config.token_inputs, partial=partial, loose=loose, compared=compared)

    def present(self, table: pa.Table) -> dict[str, Mask]:
        """By input, which rows have it, (rows,)."""
        return {name: _any(table, columns) for name, columns in self.inputs.items()}

    def labelled(self, table: pa.Table) -> dict[str, Mask]:
        """By output, which rows have its target, (rows,)."""
        present, found = self.present(table), self._labels(table)
        for name, inputs in self.compared.items():
            found[name] = np.logical_and.reduce([found[name], *(present[source] for source in inputs)])
        return found

    def _labels(self, table: pa.Table) -> dict[str, Mask]:
        """The same, whatever inputs an output compares."""
        present = self.present(table)
        found = {}
        for name, columns in self.outputs.items():
            combined = np.logical_or if name in self.partial else np.logical_and
            found[name] = combined.reduce([_valid(table, column) for column in columns] or [_every(table)])
            if name in self.token_inputs:
                found[name] = found[name] & present[self.token_inputs[name]]
        return found

    def readable(self, rows: Rows, name: str, written: str | None = None) -> Rows:
        """The rows that have an input (and a text in the column `written`): those that it is fitted on."""
        mask = self.present(rows.table)[name]
        return rows_where(rows, mask if written is None else mask & _valid(rows.table, written))

    def has_target(self, table: pa.Table) -> Mask:
        """Which rows have the target of some output, (rows,)."""
        found: Mask = np.logical_or.reduce(list(self._labels(table).values()))
        return found

    def unusable(self, table: pa.Table, empty: Mapping[str, Mapping[int, str]]) -> Iterator[tuple[str, int, str]]:
        """Cells without a value that a row cannot do without: column, row, reason.

        An input has all of its columns or none (but for those it can do without), and a row has at least one input.

        Args:
            table: the columns of all inputs, null where a cell has no value.
            empty: by column, the reason of each row's null.
        """
        present = self.present(table)
        anything = np.logical_or.reduce(list(present.values()))
        reported: set[int] = set()
        for column, reasons in empty.items():
            readers = [mask for name, mask in present.items() if column in self.inputs[name] and name not in self.loose]
            needed = ~anything | np.logical_or.reduce(readers or [~_every(table)])
            found = [(column, row, reason) for row, reason in reasons.items() if needed[row]]
            reported.update(row for _, row, _ in found)
            yield from found
        first = next(column for columns in self.inputs.values() for column in columns)
        for row in np.flatnonzero(~anything).tolist():
            if row not in reported:
                yield first, row, "is missing, and so is every other column of the inputs"

    def counts(self, table: pa.Table) -> dict[str, int]:
        """How many rows lack each input and each target, by config path; what no row lacks is left out."""
        masks = {f"inputs.{name}": mask for name, mask in self.present(table).items()}
        masks |= {f"outputs.{name}": mask for name, mask in self.labelled(table).items()}
        return {place: int((~mask).sum()) for place, mask in masks.items() if not mask.all()}


def _needed(kind: InputBase | OutputBase) -> tuple[str, ...]:
    return tuple(column for column, read in kind.columns().items() if not read.may_miss)


def _every(table: pa.Table) -> Mask:
    return np.ones(table.num_rows, bool)


def _valid(table: pa.Table, column: str) -> Mask:
    if column not in table.column_names:  # of rows to be predicted
        return ~_every(table)
    valid: Mask = np.asarray(table.column(column).is_valid())
    return valid


def _any(table: pa.Table, columns: Sequence[str]) -> Mask:
    found: Mask = np.logical_or.reduce([_valid(table, column) for column in columns] or [_every(table)])
    return found


def rows_where(rows: Rows, mask: Mask) -> Rows:
    """The rows where `mask` is true; the same where that is all of them."""
    return rows if mask.all() else Rows(filtered(rows.table, mask, None))


def said(counts: Mapping[str, Mapping[str, int]], rows: Mapping[str, int]) -> list[str]:
    """``rows without inputs.text: train 3 of 90, test 1 of 10``, a line for each input and target."""
    places = dict.fromkeys(place for found in counts.values() for place in found)
    return [
        f"rows without {place}: "
        + ", ".join(f"{split} {found[place]:,} of {rows[split]:,}" for split, found in counts.items() if place in found)
        for place in places
    ]


def without_blanks(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """The texts, null where one is empty or blank."""
    blank = pc.equal(pc.utf8_trim_whitespace(texts), "")
    return pc.if_else(blank, None, texts) if pc.any(blank).as_py() else texts


# ------------------------------------------------------------------------------------------------------- batches


@dataclass(frozen=True)
class PresentRows:
    """The encoded rows that have an input, read by all rows of a split: one that lacks it gets the shortest of them.

    What is there is not used: the network substitutes a learned vector for its encoding of that row.

    Attributes:
        source: the encoded rows that have the input; None if no row has it, and there are no features.
        places: of each row of the split in `source`, (rows,).
    """

    source: RowSource | None
    places: NDArray[np.int64]

    @classmethod
    def of(cls, source: RowSource | None, present: Mask) -> PresentRows:
        """The rows of `source`, of which there are as many as are `present`."""
        shortest = 0
        if source is not None and LENGTH in source.features:
            shortest = int(source.numbers(LENGTH).argmin())
        places = np.full(len(present), shortest, np.int64)
        places[present] = np.arange(int(present.sum()))
        return cls(source, places)

    @property
    def features(self) -> Collection[str]:
        """The available features."""
        return () if self.source is None else self.source.features

    def numbers(self, feature: str) -> NDArray[Any]:
        """One number per row, (rows,)."""
        assert self.source is not None
        return self.source.numbers(feature)[self.places]

    def sequences(self, feature: str, rows: Sequence[int]) -> list[NDArray[Any]]:
        """The sequences of some rows, each (length,)."""
        assert self.source is not None
        return self.source.sequences(feature, self.places[list(rows)].tolist())

    def arrays(self, feature: str, rows: Sequence[int]) -> NDArray[Any]:
        """The arrays of some rows, (rows, *shape)."""
        assert self.source is not None
        return self.source.arrays(feature, self.places[list(rows)].tolist())


def no_tensors(encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
    """The collator of an input that no row of a split has."""
    del encoded, rows, draw
    return {}


def drop_inputs(
    present: Mapping[str, Mask], inputs: Collection[str], rates: Mapping[str, float], rows: Sequence[int], draw: Draw
) -> dict[str, Mask]:
    """Drop whole inputs of a training batch (`modality_dropout`); each row keeps at least one of those that it has.

    The draw is counted: it depends on seed, epoch, input and row alone.

    Args:
        present: which rows of the batch have an input, (batch,); those that all rows have may be left out.
        inputs: all inputs.
        rates: by input, the probability that a row loses it.
        rows: of the batch, by position in the split.
        draw: the random numbers of this epoch.

    Returns:
        Which rows of the batch have an input that is then left, (batch,); of all inputs that rows lack or may lose.
    """
    found = {name: present[name].copy() if name in present else np.ones(len(rows), bool) for name in (*present, *rates)}
    for place, row in enumerate(rows):
        there = [name for name in inputs if name not in found or found[name][place]]
        dropped = [
            name
            for name in there
            if draw.below(RESOLUTION, "modality_dropout", name, row) < rates.get(name, 0.0) * RESOLUTION
        ]
        if len(dropped) == len(there):
            dropped.pop(draw.below(len(dropped), "modality_dropout", row))
        for name in dropped:
            found[name][place] = False
    return found
