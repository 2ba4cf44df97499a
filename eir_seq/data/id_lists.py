"""Lists of ids: files that name rows of the training table, which become the validation or the test part."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from eir_seq.config.columns import ID, Columns
from eir_seq.config.schema import DataConfig
from eir_seq.data.columns import as_text
from eir_seq.data.readers import JSON, TEXT, read_table
from eir_seq.data.readers.base import FaultLog, Wanted, check_file, open_text
from eir_seq.data.readers.folder import TEXT_COLUMN
from eir_seq.data.spelling import same_but_for_spelling
from eir_seq.errors import UserError, nearest
from eir_seq.registry import READERS

LINE = 1 << 20
"""Characters of the first line of JSON Lines that are looked at."""


class _NamesRead(Exception):
    """The names of the columns are known; nothing more is to be read."""


@dataclass(frozen=True)
class _Names(Wanted):
    found: list[str] = field(default_factory=list)

    def resolve(self, names: Sequence[str], source: str) -> dict[str, int]:
        del source
        self.found.extend(self.rename.get(name, name) for name in names)
        raise _NamesRead


def is_id_list(path: str, data: DataConfig, columns: Columns) -> bool:
    """Whether a file lists ids of rows, and not rows: it is a text where rows need more, or has ids alone.

    Args:
        path: may be a folder, a Hub split, or nothing that exists: none of these is a list.
        data: how it would be read.
        columns: what the experiment reads of rows.
    """
    path = os.path.expanduser(path)
    suffixes = [suffix.lower() for suffix in Path(path).suffixes if suffix.lower() != ".gz"]
    if not os.path.isfile(path) or not suffixes or suffixes[-1].removeprefix(".") not in READERS:
        return False
    needed = set(columns.places) - {columns.id or ID}
    if suffixes[-1] == TEXT:
        return not needed <= {TEXT_COLUMN}
    return bool(needed) and set(_names(path, data)) == {columns.id or ID}


def _names(path: str, data: DataConfig) -> list[str]:
    """The columns of a table, renamed; none where it cannot be read, which its reader tells."""
    found = _Names({}, rename=data.rename)
    try:
        if Path(path.removesuffix(".gz")).suffix.lower() in JSON:
            with open_text(path, "") as file:
                first = json.loads(file.readline(LINE))
            return [data.rename.get(str(name), str(name)) for name in first] if isinstance(first, dict) else []
        read_table(path, data, found, "")
    except _NamesRead:
        return found.found
    except (UserError, ValueError, RecursionError):
        pass
    return []


def read_ids(path: str, data: DataConfig, columns: Columns, place: str) -> list[str]:
    """The ids that a file lists, in its order.

    Raises:
        UserError: it cannot be read, lists none, or lists one twice.
    """
    path = os.path.expanduser(path)
    check_file(path, place)
    if Path(path.removesuffix(".gz")).suffix.lower() == TEXT:
        with open_text(path, place) as file:
            ids = [line for line in (line.strip() for line in file) if line]
    else:
        column = columns.id or ID
        table = read_table(path, data, Wanted({column: place}, rename=data.rename, folder=data.cache_dir), place).table
        texts = as_text(table.column(column), whole_numbers_only=True)
        ids = [value for value in texts.to_pylist() if value]
    faults = FaultLog()
    if not ids:
        faults.add("no ids", place, f"{path} lists no ids")
    seen: set[str] = set()
    for value in ids:
        if value in seen:
            faults.add("repeated ids", place, f"{path} lists {value!r} more than once")
        seen.add(value)
    faults.raise_any()
    return ids


def check_listed(
    ids: pa.ChunkedArray, listed: Mapping[str, Sequence[str]], files: Mapping[str, str], left_out: Collection[str]
) -> None:
    """Raise `UserError` for listed ids that no training row has or that two parts list, and where no row is left.

    Args:
        ids: of the training rows.
        listed: ids by part.
        files: what lists them, by part.
        left_out: ids of rows that cannot be used; they may be listed.
    """
    faults, known = FaultLog(), set(ids.to_pylist())
    for part, values in listed.items():
        hint = None
        for value in values:
            if value in known or value in left_out:
                continue
            if hint is None:  # of the first one; the others are counted
                hint = nearest(value, list(known)) or same_but_for_spelling([value], list(known))
                faults.add(
                    "unknown ids", f"data.{part}", f"{files[part]} lists {value!r}, which no training row has{hint}"
                )
            else:
                faults.add("unknown ids", f"data.{part}", f"{files[part]} lists {value!r}, which no training row has")
        if hint is None and known.isdisjoint(values):
            faults.add("no rows", f"data.{part}", f"no row that {files[part]} lists can be used")
    *_, last = listed
    if len(listed) == 2 and (both := sorted(set.intersection(*map(set, listed.values())))):
        shown = ", ".join(map(repr, both[:3])) + (", ..." if len(both) > 3 else "")
        faults.add("shared ids", f"data.{last}", f"{len(both)} ids are listed for the other part, too: {shown}")
    if not faults and known.issubset({value for values in listed.values() for value in values}):
        message = f"every row is listed in {' and '.join(files.values())}; none is left to train on"
        faults.add("no rows", f"data.{last}", message)
    faults.raise_any()
