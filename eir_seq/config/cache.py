"""The cache folder: where it is and how large it may be."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from eir_seq.config.strict import Strict

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*(?:([kmgt])(i?))?b?", re.IGNORECASE)


def size_in_bytes(text: str) -> int:
    """A size such as ``20GB``, ``1.5 TB``, ``512MiB`` or ``100000`` in bytes; raises `ValueError` if it is none.

    >>> size_in_bytes("20GB"), size_in_bytes("1 KiB")
    (20000000000, 1024)
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write for example 20GB, 500MB or 1.5TiB")
    number, unit, binary = match.groups()
    power = " kmgt".index(unit.lower()) if unit else 0
    return int(float(number) * (1024 if binary else 1000) ** power)


def _size(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        raise ValueError(f"{shown} is not a size; write for example 20GB, or null for no limit")
    size_in_bytes(str(value))
    return str(value)


Size = Annotated[str, BeforeValidator(_size, json_schema_input_type=str | int)]
"""Bytes, with a unit or without."""


class CacheConfig(Strict):
    """What can be rebuilt from the data: encoded rows, trained tokenizers."""

    dir: str | None = Field(None, description="the folder; $XDG_CACHE_HOME/eir_seq or ~/.cache/eir_seq if absent")
    max_size: Size | None = Field(
        "20GB",
        description="above it, the least recently used entries that no run uses are evicted after an addition; "
        "null: no limit",
    )

    @property
    def max_bytes(self) -> int | None:
        """`max_size` in bytes."""
        return None if self.max_size is None else size_in_bytes(self.max_size)
