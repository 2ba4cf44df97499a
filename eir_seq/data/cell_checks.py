"""Whether what cells name or hold can be used: files, pictures, arrays, boxes, conversations."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from eir_seq.data.columns import text_fault
from eir_seq.data.readers.base import RawTable
from eir_seq.data.roles import Roles
from eir_seq.modalities.base import Cells
from eir_seq.modalities.cells import write_cell
from eir_seq.modalities.files import MOST_BYTES
from eir_seq.remote import is_url, mirrored, original
from eir_seq.spool import ROWS_PER_BATCH, forget_pages

if TYPE_CHECKING:
    pass

FIRST_ROWS = 25
"""Rows of which most decide the shape of all; a wrong first one is then the one that is named."""


def check_cells(
    raw: RawTable,
    roles: Roles,
    checking: Sequence[Cells],
    columns: Mapping[str, pa.ChunkedArray],
    reasons: dict[int, list[str]],
    cache: str | None = None,
) -> dict[str, pa.ChunkedArray]:
    """Note what is wrong with cells; returns the columns in which names of files became those of files found."""
    folder = _folder_of(raw, roles)
    names = dict.fromkeys(name for cells in checking for name in (cells.column, *cells.places))
    may_miss = roles.missing is not None or checking is roles.restoring
    found: dict[str, list[pa.Array]] = {name: [] for cells in checking for name in cells.file_columns}
    for cells in checking:
        if cells.column in cells.file_columns:
            first = columns[cells.column][:FIRST_ROWS].to_pylist()
            local = _fetched(folder, {cells.column: first}, [cells], cache)
            cells.infer_shape(_values_of(cells, first, local))
    start = 0
    for batch in pa.table({name: columns[name] for name in names}).to_batches(max_chunksize=ROWS_PER_BATCH):
        given = batch.to_pydict()
        local = _fetched(folder, given, checking, cache)
        changed = {name: list(given[name]) for name in found}
        for cells in checking:
            for row in range(batch.num_rows):
                if may_miss and given[cells.column][row] is None:
                    continue  # it lacks the input or the target, or it has been said that it must not
                values, problems = {}, []
                for name in cells.places:
                    try:
                        values[name] = cells.read(name, given[name][row], local)
                    except ValueError as error:
                        problems.append(f"{name!r} {error}")
                text = given[cells.column][row]
                if not problems and (cells.column in roles.prompts or text_fault(text) is None):
                    problems = list(cells.problems(text, values))
                if problems:
                    reasons.setdefault(start + row, []).extend(problems)
                    continue
                for name in cells.file_columns:
                    changed[name][row] = write_cell(values[name])
        for name, cell_texts in changed.items():
            found[name].append(pa.array(cell_texts, pa.string()))
        start += batch.num_rows
        forget_pages()
    return {name: pa.chunked_array(parts, pa.string()) for name, parts in found.items()}


def _folder_of(raw: RawTable, roles: Roles) -> str:
    """The folder, or its URL, of the files that cells name."""
    source = original(raw.source)
    if roles.file_dir is not None:
        return roles.file_dir if is_url(roles.file_dir) else os.path.expanduser(roles.file_dir)
    if is_url(source):
        return source.rpartition("/")[0]
    return source if os.path.isdir(source) else os.path.dirname(source)


def _fetched(
    folder: str, given: Mapping[str, Sequence[str | None]], checking: Sequence[Cells], cache: str | None
) -> Path:
    """The folder of the files that some cells name; of one by URL a local one, with the files that these name."""
    if not is_url(folder):
        return Path(folder)
    columns = {name for cells in checking for name in cells.file_columns if name in given}
    named = {cell for name in columns for cell in given[name] if cell and cell.lstrip()[:1] not in "[{"}
    return mirrored(folder, named, "data.file_dir", cache, MOST_BYTES)


def _values_of(cells: Cells, texts: Sequence[str | None], folder: Path) -> list[Any]:
    """What cells name or hold, of those that do."""
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(cells.read(cells.column, text, folder))
    return found
