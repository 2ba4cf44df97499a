"""The rows of a split: typed columns of an Arrow table, read by name, where they lie."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from operator import eq
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

T = TypeVar("T")
AT_ONCE = 8192
"""Values that are Python objects at once."""
SHARED = 1000
"""Distinct texts of a column up to which equal ones share their memory."""


class Values(Sequence[T]):
    """The values of a column, which become Python objects when they are asked for.

    >>> values = Values(pa.chunked_array([[1.5, None], [2.0]]))
    >>> values[2], values[:2], values == [1.5, None, 2.0]
    (2.0, [1.5, None], True)
    """

    def __init__(self, column: pa.ChunkedArray | Sequence[pa.Array | list[T]]) -> None:
        self._chunks: list[Any] = column.chunks if isinstance(column, pa.ChunkedArray) else list(column)
        self._ends = list(accumulate(map(len, self._chunks)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, key: int) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> list[T]: ...
    def __getitem__(self, key: int | slice) -> T | list[T]:
        if isinstance(key, slice):
            return [self[row] for row in range(len(self))[key]]
        row = range(len(self))[key]
        number = bisect_right(self._ends, row)
        value = self._chunks[number][row - (self._ends[number - 1] if number else 0)]
        found: T = value.as_py() if isinstance(value, pa.Scalar) else value
        return found

    def __iter__(self) -> Iterator[T]:
        for chunk in self._chunks:
            for start in range(0, len(chunk), AT_ONCE):
                part = chunk[start : start + AT_ONCE]
                yield from part.to_pylist() if isinstance(part, pa.Array) else part

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]


class Texts(Values[str]):
    """A column of texts."""


class Picked(Sequence[T]):
    """Some of many values, by position.

    >>> Picked("abc", [2, 0])[1]
    'a'
    """

    def __init__(self, values: Sequence[T], places: Sequence[int]) -> None:
        self._values, self._places = values, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, key: int) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> Picked[T]: ...
    def __getitem__(self, key: int | slice) -> T | Picked[T]:
        if isinstance(key, slice):
            return Picked(self._values, self._places[key])
        return self._values[self._places[key]]


class Rows:
    """Rows of a table. Columns are read one by one and cost nothing until then.

    Args:
        table: an Arrow table, which may be mapped from a file.

    Example:
        >>> from eir_seq.rows import Rows
        >>> rows = Rows.of({"id": ["a", "b"], "size": [1.5, None]})
        >>> rows["size"], rows[1], rows.select([1]).num_rows
        ([1.5, None], {'id': 'b', 'size': None}, 1)
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[Any]]) -> Rows:
        """Rows of Python values by column; all columns have the same length."""
        return cls(pa.table({name: pa.array(values) for name, values in columns.items()}))

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        count: int = self.table.num_rows
        return count

    @property
    def column_names(self) -> list[str]:
        """The names of the columns, in order."""
        names: list[str] = self.table.column_names
        return names

    def column(self, name: str) -> pa.ChunkedArray:
        """One column as Arrow values; raises `KeyError` if there is none of that name."""
        return self.table.column(name)

    def select(self, rows: Sequence[int]) -> Rows:
        """Rows by position, in the order given; consecutive ones are not copied."""
        if isinstance(rows, range) and rows.step == 1:
            return Rows(self.table.slice(rows.start, len(rows)))
        wanted = np.asarray(rows, np.int64)
        order = np.argsort(wanted, kind="stable")
        parts, start = [self.table.slice(0, 0)], 0
        for batch in self.table.to_batches():  # taking from the table at once would copy all of it first
            low, high = np.searchsorted(wanted[order], (start, start + batch.num_rows))
            if low < high:
                parts.append(pa.Table.from_batches([batch.take(pa.array(wanted[order[low:high]] - start))]))
            start += batch.num_rows
        taken = pa.concat_tables(parts)
        return Rows(taken if (order[:-1] < order[1:]).all() else taken.take(pa.array(np.argsort(order))))

    def select_columns(self, names: Sequence[str]) -> Rows:
        """The rows with some of their columns."""
        return Rows(self.table.select(list(names)))

    def __len__(self) -> int:
        return self.num_rows

    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    @overload
    def __getitem__(self, key: slice) -> dict[str, list[Any]]: ...
    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    def __getitem__(self, key: str | slice | int) -> list[Any] | dict[str, list[Any]] | dict[str, Any]:
        """A column by its name, rows by a slice (as columns), or one row by its position, as Python values."""
        if isinstance(key, str):
            return _values(self.table.column(key))
        if isinstance(key, slice):
            part = self.select(range(*key.indices(self.num_rows)))
            return {name: part[name] for name in self.column_names}
        position = range(self.num_rows)[key]
        return {name: self.table.column(name)[position].as_py() for name in self.column_names}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[row] for row in range(self.num_rows))


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Python values; of a column of few texts, such as classes, equal ones are the same object."""
    if not pa.types.is_string(column.type):
        values: list[Any] = column.to_pylist()
        return values
    found: list[Any] = []
    known: dict[Any, Any] = {}
    for chunk in column.chunks:
        texts = chunk.to_pylist()
        found += [known.setdefault(text, text) for text in texts] if len(known) <= SHARED else texts
    return found


def bytes_of(texts: pa.StringArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The UTF-8 bytes of texts without nulls, one after the other, and the bounds of each, ``(texts + 1,)``."""
    _, bounds, data = texts.buffers()
    if bounds is None:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(bounds, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    given = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data is not None else np.empty(0, np.uint8)
    return given, offsets - offsets[0]
