"""Readers of table files: one function that picks the reader by the file's suffix."""

from __future__ import annotations

from pathlib import Path

from eir_seq.config.schema import DataConfig
from eir_seq.data.readers.base import RawTable, Reader, Wanted, check_file
from eir_seq.errors import Fault, UserError
from eir_seq.registry import READERS

JSON = (".jsonl", ".ndjson", ".json")
TEXT = ".txt"


def read_table(path: str, config: DataConfig, wanted: Wanted, place: str) -> RawTable:
    """The wanted columns of a table file; raises `UserError` with everything in it that cannot be read.

    `place` is the config key that names the file. CSV, TSV, JSON Lines and text may be compressed with gzip (``.gz``).
    """
    check_file(path, place)
    suffixes = [suffix.lower() for suffix in Path(path).suffixes] or [""]
    packed = suffixes[-1] == ".gz" and len(suffixes) > 1
    suffix = (suffixes[-2] if packed else suffixes[-1]).removeprefix(".")
    reader: Reader | None = READERS.get(suffix)
    if reader is None or (packed and not reader.gzip):
        allowed = ", ".join(f".{name}" for name in READERS)
        message = f"{path}: the format is determined by the file's suffix, one of {allowed} (text also .gz)"
        raise UserError(Fault(place, message))
    return reader.read(path, wanted, place, config)


FILES = Reader(lambda path, wanted, place, data: read_table(path, data, wanted, place))
