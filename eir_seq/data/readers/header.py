"""Which columns a table has, from its beginning: what is wrong there shows before anything large is imported or read.

The readers themselves look: each calls `Wanted.resolve` as soon as it knows the columns, and is stopped there. JSON has
no header; a small file is read whole, of a large one the first rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from eir_seq.config.schema import DataConfig
from eir_seq.data.readers import JSON, read_table
from eir_seq.data.readers.base import Wanted, check_file, open_text
from eir_seq.errors import Fault, UserError

SMALL = 1 << 20
"""Bytes of a JSON file that is read whole."""
ROWS, LONGEST = 100, 1 << 24
"""Rows that are looked at, and characters of a line."""


class _HeaderRead(Exception):
    """The wanted columns are there; nothing more is to be read."""


@dataclass(frozen=True)
class _HeaderOnly(Wanted):
    def resolve(self, names: Sequence[str], source: str) -> dict[str, int]:
        super().resolve(names, source)
        raise _HeaderRead


def check_header(path: str, config: DataConfig, wanted: Wanted, place: str) -> None:
    """Raise `UserError` for a file that is none or empty, whose format or encoding is not read, or that lacks columns.

    Args:
        path: a table file.
        config: how it is read.
        wanted: the columns.
        place: the config key that names the file.
    """
    suffixes = [suffix.lower() for suffix in Path(path).suffixes if suffix.lower() != ".gz"]
    check_file(path, place)
    if suffixes and suffixes[-1] in JSON and os.path.getsize(path) > SMALL:
        _check_first_rows(path, config, wanted, place)
        return
    header = _HeaderOnly(**vars(wanted))
    try:
        read_table(path, config, header, place)
    except _HeaderRead:
        return


def _check_first_rows(path: str, config: DataConfig, wanted: Wanted, place: str) -> None:
    """Of JSON Lines, where a row that lacks a column is an error: that the first rows have it."""
    names: dict[str, None] = {}
    rows = 0
    with open_text(path, place, errors="surrogateescape") as file:
        for line in islice(iter(lambda: file.readline(LONGEST), ""), ROWS):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                return  # another layout, or a row that the reader names
            if not isinstance(row, dict):
                return
            names.update(dict.fromkeys(map(str, row)))
            rows += 1
    if config.on_bad_row == "skip" or rows == 1:  # a single object may hold the list of rows
        return
    try:
        wanted.resolve(list(names), path)
    except UserError as error:
        where = f"the first {ROWS} rows of {path}"
        faults = (Fault(fault.place, fault.message.replace(f" in {path}", f" in {where}", 1)) for fault in error.faults)
        raise UserError(*faults) from None
