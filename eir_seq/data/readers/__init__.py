"""Readers of table files: one function that picks the reader by the file's suffix."""

from __future__ import annotations

from pathlib import Path

from eir_seq.config.schema import DataConfig
from eir_seq.data.readers.base import RawTable, Wanted, check_file
from eir_seq.data.readers.columnar import read_arrow, read_parquet
from eir_seq.data.readers.conll import read_conll
from eir_seq.data.readers.delimited import read_delimited
from eir_seq.data.readers.jsonl import read_json
from eir_seq.data.readers.text import read_text
from eir_seq.errors import Fault, UserError

DELIMITED = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON = (".jsonl", ".ndjson", ".json")
CONLL = (".conll", ".bio", ".iob")
PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
TEXT = ".txt"


def read_table(path: str, config: DataConfig, wanted: Wanted, place: str) -> RawTable:
    """The wanted columns of a table file; raises `UserError` with everything in it that cannot be read.

    `place` is the config key that names the file. CSV, TSV, JSON Lines and text may be compressed with gzip (``.gz``).
    """
    check_file(path, place)
    suffixes = [suffix.lower() for suffix in Path(path).suffixes] or [""]
    packed = suffixes[-1] == ".gz" and len(suffixes) > 1
    suffix = suffixes[-2] if packed else suffixes[-1]
    if suffix in DELIMITED:
        delimiter = config.delimiter or DELIMITED[suffix]
        return read_delimited(path, wanted, place, delimiter=delimiter, quote=config.quote)
    if suffix in JSON:
        return read_json(path, wanted, place, skip_broken=config.on_bad_row == "skip")
    if suffix == TEXT:
        return read_text(path, wanted, place)
    if suffix in CONLL:
        return read_conll(path, wanted, place)
    if suffix in PARQUET and not packed:
        return read_parquet(path, wanted, place)
    if suffix in ARROW and not packed:
        return read_arrow(path, wanted, place)
    allowed = ", ".join([*DELIMITED, *JSON, *PARQUET, *ARROW, *CONLL, TEXT])
    raise UserError(
        Fault(place, f"{path}: the format is determined by the file's suffix, one of {allowed} (text also .gz)")
    )
