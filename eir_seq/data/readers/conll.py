"""CoNLL files: a word per line with its tags after it, an empty line between sentences."""

from __future__ import annotations

import json

import pyarrow as pa

from eir_seq.data.readers.base import (
    FaultLog,
    RawTable,
    Reader,
    Wanted,
    file_record,
    has_surrogate,
    open_text,
    undecodable,
)
from eir_seq.errors import Fault, UserError

WORDS, TAGS = "words", "tags"
"""The first column and the last; those between are called ``column2``, ``column3`` ..."""
_DOCUMENT = "-DOCSTART-"


def read_conll(path: str, wanted: Wanted, place: str) -> RawTable:
    """One row per sentence; each column is a list, as JSON. Columns are separated by tabs, or else by white space.

    Raises `UserError` naming each line that has more or fewer columns than the first.
    """
    faults = FaultLog()
    sentences: list[list[list[str]]] = [[]]
    starts: list[int] = []
    positions: dict[str, int] = {}
    width = 0
    with open_text(path, place, errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            text = line.strip("\r\n")
            fields = text.rstrip("\t").split("\t") if "\t" in text else text.split()
            if not text.strip() or fields[0].strip() == _DOCUMENT:
                if sentences[-1]:
                    sentences.append([])
                continue
            if not width:
                width = len(fields)
                names = [WORDS, *(f"column{number}" for number in range(2, width)), TAGS][:width]
                positions = wanted.resolve(names, path)
            if len(fields) != width:
                faults.add(
                    "number of columns",
                    f"{path} line {number}",
                    f"{len(fields)} columns where the first line has {width}",
                )
            elif not all(fields[index].strip() for index in positions.values()):
                faults.add("empty columns", f"{path} line {number}", "a column is empty")
            elif any(has_surrogate(fields[index]) for index in positions.values()):
                raise UserError(Fault(place, f"{path} is not UTF-8: {undecodable(path, number)}"))
            if not sentences[-1]:
                starts.append(number)
            sentences[-1].append([field.strip() for field in fields])
    faults.raise_any()
    if not starts:
        raise UserError(Fault(place, f"{path} holds no words"))
    kept = [sentence for sentence in sentences if sentence]
    columns = {}
    for name, index in positions.items():
        columns[name] = pa.array(
            [json.dumps([word[index] for word in s], ensure_ascii=False) for s in kept], pa.string()
        )
    table = pa.table(columns)
    return RawTable(path, table, starts, record=file_record(path, table))


CONLL = Reader(lambda path, wanted, place, _data: read_conll(path, wanted, place), gzip=True)
