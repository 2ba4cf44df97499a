"""Columns of tables: values as text, and which of them cannot be used, chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eir_seq.modalities.cells import write_cell
from eir_seq.spool import forget_pages

_BLANK = r"\A[\s\x00-\x20\x85\xa0\p{Z}]*\z"
"""Every text that `str.isspace` calls blank, the empty one, and a few more."""
CHUNKS_HELD = 4
"""Chunks of a mapped column that stay resident while it is read."""


def text_fault(text: str | None) -> str | None:
    """Why a text cannot be used: missing, empty, blank, or with NUL characters as binary data have them."""
    if text is None:
        return "is missing"
    if not text:
        return "is empty"
    if text.isspace():
        return "is blank"
    if "\0" in text:
        return f"has a NUL character at position {text.index(chr(0))}"
    return None


def faulty_texts(column: pa.ChunkedArray) -> Iterator[tuple[int, str]]:
    """The rows whose text cannot be used, each with the reason of `text_fault`."""
    for start, chunk in _chunks(column):
        suspect = pc.or_(pc.match_substring_regex(chunk, _BLANK), pc.match_substring(chunk, "\0"))
        for row in np.flatnonzero(suspect.fill_null(True).to_numpy(zero_copy_only=False)).tolist():
            reason = text_fault(chunk[row].as_py())
            if reason is not None:
                yield start + row, reason


def null_rows(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """The rows without a value, in order."""
    return np.flatnonzero(column.is_null().to_numpy()) if column.null_count else np.empty(0, np.int64)


def by_value(column: pa.ChunkedArray, change: Callable[[Any], Any], kind: pa.DataType) -> pa.ChunkedArray:
    """The column with every value changed; each distinct value of a chunk is looked at once. Nulls stay."""
    chunks = []
    for _, chunk in _chunks(column):
        codes = chunk.dictionary_encode()
        values = pa.array([change(value) for value in codes.dictionary.to_pylist()], kind)
        chunks.append(values.take(codes.indices))
    return pa.chunked_array(chunks, kind)


def counts(column: pa.ChunkedArray) -> dict[Any, int]:
    """How often each value occurs, in the order of their first rows."""
    return {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}


def as_text(values: pa.ChunkedArray, *, whole_numbers_only: bool) -> pa.ChunkedArray:
    """A column as text; raises `TypeError` naming the type where it is none of text, number and truth value.

    Whole numbers keep all their digits; with `whole_numbers_only` fractions are refused, otherwise 1.0 becomes "1".
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return as_text(values.cast(kind.value_type), whole_numbers_only=whole_numbers_only)
    if pa.types.is_string(kind):
        return values
    if pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return values.cast(pa.string())
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return values.cast(pa.string())
    if pa.types.is_floating(kind) and not whole_numbers_only:
        return by_value(values, _number_text, pa.string())
    raise TypeError(f"{kind}, not text")


def _number_text(value: float) -> str | None:
    if math.isnan(value):
        return None
    return str(int(value)) if value.is_integer() else repr(float(value))


def as_cells(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of lists, objects or texts as text, lists and objects as JSON; raises `TypeError` as `as_text`."""
    kind = values.type
    if not pa.types.is_nested(kind) or pa.types.is_dictionary(kind):
        return as_text(values, whole_numbers_only=False)
    try:
        texts = [
            pa.array([None if value is None else write_cell(value) for value in chunk.to_pylist()], pa.string())
            for _, chunk in _chunks(values)
        ]
    except TypeError:
        raise TypeError(f"{kind}, not texts and numbers") from None
    return pa.chunked_array(texts, pa.string())


def _chunks(column: pa.ChunkedArray) -> Iterator[tuple[int, pa.Array]]:
    """The chunks with the row where each begins; what was read of mapped ones is let go of."""
    start = 0
    for number, chunk in enumerate(column.chunks):
        yield start, chunk
        start += len(chunk)
        if number % CHUNKS_HELD == CHUNKS_HELD - 1:
            forget_pages()
