"""Which columns inputs read that leave this to the data (`columns: auto`, names with `*`).

A look at the training table settles it, before anything is fitted; the bundle holds the names.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eir_seq.config.column_types import ColumnGuess, ColumnType
from eir_seq.config.columns import columns_of
from eir_seq.config.schema import DataConfig, ExperimentConfig
from eir_seq.data.columns import as_numbers, as_text, without_markers
from eir_seq.data.readers import read_table
from eir_seq.data.readers.base import Reader, Wanted
from eir_seq.data.source import local_data
from eir_seq.data.tables import source_paths
from eir_seq.errors import Fault, UserError
from eir_seq.registry import SOURCES

HEAD = 10_000
"""Rows of a streamed table that are looked at."""
FEW = 10
"""Different whole numbers up to which a column holds categories."""


class _Seen(Exception):
    """The names of all columns are known; nothing more is to be read."""


@dataclass(frozen=True)
class _Names(Wanted):
    """Wants nothing, and notes what there is."""

    found: list[str] = field(default_factory=list)

    def resolve(self, names: Sequence[str], source: str) -> dict[str, int]:
        """Note the names and stop."""
        del source
        self.found[:] = [self.rename.get(name, name) for name in names]
        raise _Seen


@dataclass
class _Table:
    """The training table, or the table of labels next to a folder of texts."""

    data: DataConfig

    @property
    def _path(self) -> tuple[str, str]:
        path = source_paths(self.data).get("train")
        if path is None:
            raise UserError(Fault("data.train", "give the file or folder of the training rows"))
        if self.data.reads_files and os.path.isdir(path):
            if self.data.labels is None:
                raise UserError(Fault("data.labels", "give the table with the columns of the text files"))
            return os.path.expanduser(self.data.labels), "data.labels"
        return path, "data.train"

    def _read(self, wanted: Wanted) -> pa.Table:
        if self.data.streaming:
            from eir_seq.data.stream.shards import head

            return head(self.data, wanted, HEAD)
        path, place = self._path
        if place == "data.labels":
            return read_table(path, self.data, wanted, place).table
        reader: Reader = SOURCES[self.data.source]
        return reader.read(path, wanted, place, self.data).table

    def names(self) -> list[str]:
        """All of its columns."""
        wanted = _Names({}, rename=self.data.rename)
        with contextlib.suppress(_Seen):
            self._read(wanted)
        return wanted.found

    def guess(self, names: Sequence[str], place: str) -> dict[str, ColumnGuess]:
        """What some of its columns hold; `place` is the config path of the input concerned."""
        if not names:
            return {}
        wanted = Wanted(dict.fromkeys(names, place), rename=self.data.rename, structured=frozenset(names))
        table = self._read(replace(wanted, folder=self.data.cache_dir))
        markers = frozenset(self.data.missing_labels)
        return {name: guess_type(table.column(name), markers) for name in names}


def resolve(config: ExperimentConfig) -> tuple[ExperimentConfig, list[str]]:
    """The experiment with the names of all columns that it reads, and what was decided, in readable form.

    Raises:
        UserError: the training table cannot be read, or has no such columns.
    """
    waiting = [name for name, declared in config.inputs.items() if declared.is_open]
    if not waiting:
        return config, []
    table = _Table(local_data(config))
    names = table.names()
    inputs, said = dict(config.inputs), []
    for name in waiting:
        place = f"inputs.{name}"
        others = {other: declared for other, declared in inputs.items() if other != name}
        columns = columns_of(config.data, {}, config.outputs)
        fixed = {*columns.of("target"), *([config.data.group] if config.data.group else []), columns.id}
        used = set(columns_of(config.data, others, {}).of("input"))

        def guess(wanted: Sequence[str], place: str = place) -> Mapping[str, ColumnGuess]:
            return table.guess(wanted, place)

        inputs[name], decided = inputs[name].resolved(place, [n for n in names if n not in fixed], used, guess)
        said += decided
    return config.model_copy(update={"inputs": inputs}), said


def guess_type(column: pa.ChunkedArray, markers: Collection[str]) -> ColumnGuess:
    """What a column is likely to hold, and why.

    Truth values and integers with at most `FEW` different values are categories, other numbers are numbers; texts
    are categories unless most of them differ.

    >>> guess_type(pa.chunked_array([["1.5", "2", "NA"]]), {"NA"})
    ColumnGuess(type=<ColumnType.NUMBER: 'number'>, reason='numbers')
    """
    if pa.types.is_boolean(column.type):
        return ColumnGuess(ColumnType.CATEGORY, "truth values")
    try:
        texts = without_markers(as_text(column), markers)
    except TypeError as error:
        return ColumnGuess(None, f"it holds {error}")
    texts = pc.if_else(pc.equal(pc.utf8_trim_whitespace(texts), ""), None, texts)
    there = len(texts) - texts.null_count
    distinct = pc.count_distinct(texts, mode="only_valid").as_py()
    if not there:
        return ColumnGuess(None, "it has no values")
    if distinct == 1 and not texts.null_count:
        return ColumnGuess(None, "it is the same in all rows")
    numbers, wrong = as_numbers(texts, markers)
    if not wrong:
        values: Any = numbers.drop_null().to_numpy()
        whole = bool((values == np.floor(values)).all())
        if whole and distinct <= FEW:
            return ColumnGuess(ColumnType.CATEGORY, f"integers with at most {FEW} different values")
        if whole and distinct == len(column) and values.max() - values.min() == distinct - 1:
            return ColumnGuess(None, "it numbers the rows")
        return ColumnGuess(ColumnType.NUMBER, "numbers")
    if pc.all(pc.match_substring_regex(texts, r"^\s*[\[{]")).as_py() and _is_json(texts.drop_null()[0].as_py()):
        return ColumnGuess(None, "it holds lists or objects")
    if distinct > max(FEW, there // 2):
        return ColumnGuess(None, f"{distinct:,} of its {there:,} texts differ, as ids and free texts do")
    return ColumnGuess(ColumnType.CATEGORY, "texts")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
