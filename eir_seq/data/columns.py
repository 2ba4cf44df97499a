"""Columns of tables: values as text, and which of them cannot be used, chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
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


def as_text(values: pa.ChunkedArray, *, whole_numbers_only: bool = False) -> pa.ChunkedArray:
    """A column as text; raises `TypeError` naming the type where it is none of text, number and truth value.

    Integers keep all their digits; with `whole_numbers_only` fractions are refused, otherwise 1.0 becomes "1".
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
        return by_value(values, number_text, pa.string())
    raise TypeError(f"{kind}, not text")


def as_numbers(values: pa.ChunkedArray, markers: Collection[str]) -> tuple[pa.ChunkedArray, dict[int, str]]:
    """A column as float64, null where it is missing, and what is wrong with other values, by row.

    Args:
        values: numbers, or texts that spell them.
        markers: values that mean that there is none.

    Raises:
        TypeError: the column holds lists or objects; names the type.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return as_numbers(values.cast(kind.value_type), markers)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = values.cast(pa.float64(), safe=False)  # beyond 2**53 the nearest one
        known = [number for marker in markers if math.isfinite(number := number_of(marker))]
        absent = pc.or_(pc.is_nan(numbers), pc.is_in(numbers, pa.array(known, pa.float64())))
        numbers = pc.if_else(absent, None, numbers)
        texts = numbers
    else:
        texts = without_markers(as_text(values, whole_numbers_only=False), markers)
        numbers = _parsed(texts)
    finite = pc.is_finite(numbers).fill_null(True)
    if pc.all(finite).as_py():
        return numbers, {}
    rows = np.flatnonzero(~finite.to_numpy())
    return numbers, {row: _number_fault(str(texts[row].as_py()), numbers[row].as_py()) for row in rows.tolist()}


def _parsed(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts as float64, NaN where one spells no number."""
    chunks = []
    for _, chunk in _chunks(texts):
        try:
            chunks.append(pc.utf8_trim_whitespace(chunk).cast(pa.float64()))
        except pa.ArrowInvalid:  # some spell none, or spell it as Python alone reads it: +1
            chunks.append(by_value(pa.chunked_array([chunk]), number_of, pa.float64()).combine_chunks())
    return pa.chunked_array(chunks, pa.float64())


def number_of(text: str) -> float:
    """The number that a text spells, NaN for none."""
    try:
        return float(text) if "_" not in text else math.nan
    except ValueError:
        return math.nan


def _number_fault(text: str, number: float) -> str:
    hint = " (a decimal comma? write 1.5)" if text.count(",") == 1 and "." not in text else ""
    if "," in text and not hint and math.isfinite(number_of(text.replace(",", ""))):
        hint = f" (separators of thousands? write {text.replace(',', '')[:40]})"
    return f"is {text[:40]!r}, {'infinite' if math.isinf(number) else 'not a number'}{hint}"


_TRUE, _FALSE = frozenset(("true", "yes", "1")), frozenset(("false", "no", "0"))


def as_booleans(values: pa.ChunkedArray, markers: Collection[str]) -> tuple[pa.ChunkedArray, dict[int, str]]:
    """A column as true and false, null where it is missing, and what is wrong with other values, by row.

    Args:
        values: truth values, 0 and 1, or texts: true, yes, 1, false, no, 0 in upper or lower case.
        markers: values that mean that there is none.

    Raises:
        TypeError: the column holds lists or objects; names the type.
    """
    if pa.types.is_boolean(values.type):
        return values, {}
    texts = without_markers(as_text(values, whole_numbers_only=False), markers)
    words = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    true, false = (pc.is_in(words, pa.array(sorted(known))) for known in (_TRUE, _FALSE))
    found = pc.if_else(pc.or_(true, false), true, None)
    rows = np.flatnonzero(pc.and_(texts.is_valid(), found.is_null()).to_numpy())
    return found, {row: f"is {texts[row].as_py()[:40]!r}, neither true nor false" for row in rows.tolist()}


def without_markers(texts: pa.ChunkedArray, markers: Collection[str]) -> pa.ChunkedArray:
    """The texts, null where one means that there is none; white space around it does not count."""
    known = pa.array(sorted(markers), pa.string())
    if not pc.any(pc.is_in(pc.utf8_trim_whitespace(texts), known)).as_py():
        return texts
    return pc.if_else(pc.is_in(pc.utf8_trim_whitespace(texts), known), None, texts)


def number_text(value: float) -> str | None:
    """A number as text, a whole one without its fraction; None for NaN."""
    if math.isnan(value):
        return None
    return str(int(value)) if value.is_integer() else repr(float(value))


def as_cells(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of lists, objects, bytes or texts as text, all but texts as JSON; raises `TypeError` as `as_text`."""
    kind = values.type
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    if not (pa.types.is_nested(kind) or binary) or pa.types.is_dictionary(kind):
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
