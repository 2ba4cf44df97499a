"""A folder of one text file per row, named ``<id>.txt``, next to a table of labels by id."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from eir_seq.data.readers.base import BadRow, FaultLog, RawTable, check_file, reading
from eir_seq.errors import Fault, UserError
from eir_seq.files import within

SUFFIX = ".txt"
TEXT_COLUMN = "text"
"""The column that the contents of the files form."""


def read_folder(path: str, place: str) -> dict[str, str]:
    """Text of each ``<id>.txt`` of a folder by id, in the order of the ids.

    Files with another suffix and hidden files are not looked at. Raises `UserError` naming every file that is no
    readable UTF-8 text, or if there is no text file at all.
    """
    with reading(path, place):
        names = sorted(entry.name for entry in os.scandir(path) if not entry.name.startswith("."))
    ids = [name[: -len(SUFFIX)] for name in names if name.endswith(SUFFIX)]
    if not ids:
        found = f"; it holds {names[0]}, ..." if names else "; it is empty"
        raise UserError(Fault(place, f"{path} holds no <id>{SUFFIX} file{found}"))
    faults, texts = FaultLog(), {}
    for row_id in ids:
        file = os.path.join(path, row_id + SUFFIX)
        try:
            texts[row_id] = _read_text(file, place)
        except UserError as error:
            faults.add("files that cannot be read", error.faults[0].place, error.faults[0].message)
    faults.raise_any()
    return texts


def _read_text(path: str, place: str) -> str:
    if os.path.islink(path) and not within(Path(path), Path(path).parent):
        raise UserError(Fault(place, f"{path} is a link that leads out of the folder of the data"))
    # An empty file is an empty text, which is judged with the other rows.
    if os.path.exists(path) and os.path.getsize(path) == 0 and os.path.isfile(path):
        return ""
    check_file(path, place)
    with reading(path, place), open(path, encoding="utf-8-sig", newline="") as file:
        return file.read()


def join_labels(
    path: str, texts: Mapping[str, str], labels: RawTable | None, id_column: str, *, keep_unlabelled: bool
) -> RawTable:
    """The texts of a folder with the label columns of the same ids.

    A file without an entry in the table is left out and listed, or with `keep_unlabelled` has missing labels.
    """
    broken: list[BadRow] = []
    columns: dict[str, Any] = {}
    if labels is not None:
        row_of = {row_id: row for row, row_id in enumerate(labels.table.column(id_column).to_pylist())}
        if not keep_unlabelled:
            reason, before = f"no entry in {labels.source}", 0
            for row_id in texts:
                if row_id in row_of:
                    before += 1
                else:
                    broken.append(BadRow(row_id, os.path.join(path, row_id + SUFFIX), reason, before))
            texts = {row_id: text for row_id, text in texts.items() if row_id in row_of}
        rows = pa.array([row_of.get(row_id) for row_id in texts], pa.int64())
        for name in labels.table.column_names:
            if name not in (id_column, TEXT_COLUMN):
                columns[name] = labels.table.column(name).take(rows)
    columns[id_column] = pa.array(list(texts), pa.string())
    columns[TEXT_COLUMN] = pa.array(list(texts.values()), pa.string())
    table = pa.table(columns)
    digest = hashlib.sha256()
    for row_id, text in texts.items():
        digest.update(f"{len(row_id)} {len(text)} {row_id}{text}".encode())
    record = {
        "path": os.path.abspath(path),
        "sha256": digest.hexdigest(),
        "rows": table.num_rows,
        "columns": table.column_names,
    }
    files = [os.path.join(path, row_id + SUFFIX) for row_id in texts]
    warnings = () if labels is None else labels.warnings
    return RawTable(path, table, files=files, broken=tuple(broken), record=record, warnings=warnings)
