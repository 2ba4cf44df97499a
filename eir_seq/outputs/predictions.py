"""The table of predictions: one line per row, in row order."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eir_seq.errors import Fault, UserError
from eir_seq.machine import cannot_write, writing
from eir_seq.outputs.files import PredictedFiles

NOT_PREDICTED = "not predicted"
"""The column of why a row has no prediction. No output can be called so: their names have no spaces."""

_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|-?inf")


@dataclass(frozen=True)
class LeftOut:
    """A row of the file that has no prediction: its id, its place among all rows, counted from 0, and why."""

    id: str
    position: int
    reason: str


def write_predictions(
    path: Path,
    ids: Sequence[str],
    columns: Mapping[str, Mapping[str, Sequence[Any]]],
    left_out: Sequence[LeftOut] | None = None,
    *,
    csv_safe: bool = False,
) -> None:
    """Write a CSV (UTF-8) with ``id`` and the columns of each output, and files of what no cell holds next to it.

    The file appears whole or not at all, and its files (`eir_seq.outputs.files`) with it. Floats have nine significant
    digits, which single precision needs, and more where all values of a column begin with the same digits.

    Args:
        path: the file to write; its folder must exist.
        ids: id of each row.
        columns: by output, what `FittedOutput.truth` (where that is known) and `FittedOutput.decode` give.
        left_out: rows that could not be used, by position. They keep their places, with empty cells, and a last
            column, `NOT_PREDICTED`, has the reason; it is empty in all other rows. None: there is no such column.
        csv_safe: put a quote (') before cells that a spreadsheet would take for a formula.

    Raises:
        UserError: two outputs have a column of the same name, or the file cannot be written.
        RunFailed: the disk is full or fails.
    """
    table: list[tuple[str, Sequence[Any]]] = [("id", ids)]
    table += [column for of_output in columns.values() for column in of_output.items()]
    if left_out is not None:
        table = _with_gaps(table, left_out)
    names = [name for name, _ in table]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(Fault("outputs", f"two columns of the predictions would be named {twice!r}; rename an output"))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    files = PredictedFiles(path)
    try:
        table = files.written(table)
        with writing(path, partial), partial.open("w", encoding="utf-8", newline="") as file:
            # A lone carriage return ends a line for readers, and Python's writer quotes it only where it ends its own.
            returns = any(isinstance(value, str) and "\r" in value for _, values in table for value in values)
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
            written = _safe_cell if csv_safe else _cell
            writer.writerow(map(written, names))
            digits = [_digits(values) for _, values in table]
            for row in zip(*(values for _, values in table), strict=True):
                writer.writerow(written(value, count) for value, count in zip(row, digits, strict=True))
            file.flush()
            os.fsync(file.fileno())
            with files.in_place():
                os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        files.tidy()


def _with_gaps(
    table: Sequence[tuple[str, Sequence[Any]]], left_out: Sequence[LeftOut]
) -> list[tuple[str, Sequence[Any]]]:
    """The columns with the rows that were left out in their places, and the column that says why."""
    total = len(table[0][1]) + len(left_out)
    missing = {row.position: row for row in left_out}
    assert len(missing) == len(left_out), "two rows have one place"
    assert all(position < total for position in missing), (sorted(missing), total)
    ids = {place: row.id for place, row in missing.items()}
    reasons = {place: row.reason for place, row in missing.items()}
    (_, given), *columns = table
    filled: list[tuple[str, Sequence[Any]]] = [("id", _Filled(given, ids, missing, total))]
    filled += [(name, _Filled(values, {}, missing, total)) for name, values in columns]
    return [*filled, (NOT_PREDICTED, _Filled((), reasons, range(total), total))]


class _Filled(Sequence[Any]):
    """Values with others at some places: `known` by place, or nothing at the `places` that have none."""

    def __init__(self, values: Sequence[Any], known: Mapping[int, Any], places: Collection[int], total: int) -> None:
        self._values, self._known, self._places, self._total = values, known, places, total

    def __len__(self) -> int:
        return self._total

    def __getitem__(self, key: Any) -> Any:
        return [*self][key]

    def __iter__(self) -> Iterator[Any]:
        given = iter(self._values)
        for place in range(self._total):
            yield self._known.get(place, "") if place in self._places else next(given)


def _digits(values: Sequence[Any]) -> int:
    """Significant digits of a column of floats: nine, and as many more as all values share."""
    least, most = math.inf, -math.inf
    for value in values:
        if isinstance(value, float) and math.isfinite(value):
            least, most = min(least, value), max(most, value)
    if least >= most:
        return 9
    ratio = max(abs(least), abs(most)) / (most - least)
    return min(17, 9 + max(0, math.floor(math.log10(ratio)) - 2)) if math.isfinite(ratio) and ratio > 0 else 9


def _safe_cell(value: Any, digits: int = 9) -> str:
    """A cell that no spreadsheet takes for a formula (https://owasp.org/www-community/attacks/CSV_Injection)."""
    text = _cell(value, digits)
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def _cell(value: Any, digits: int = 9) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
