"""Cells that hold more than a text: lists, objects and bytes as JSON."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

BASE64 = "base64"
"""The only key of an object that stands for bytes."""


def parse_cell(text: str) -> Any:
    """The value of a cell: a JSON list or object, or else the text itself; raises `ValueError` for broken JSON."""
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"is not valid JSON: {reason}") from None


def write_cell(value: Any) -> str:
    """The value as `parse_cell` reads it, bytes as `bytes_of` does; raises `TypeError` for what JSON does not know.

    >>> bytes_of(parse_cell(write_cell({"bytes": b"PNG"}))["bytes"])
    b'PNG'
    """
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_of_bytes)


def bytes_of(value: Mapping[str, Any]) -> bytes:
    """The bytes that an object of a cell stands for; raises `ValueError` where it is none."""
    try:
        return base64.b64decode(value[BASE64], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise ValueError("is an object that holds no bytes (base64)") from None


def _of_bytes(value: Any) -> dict[str, str]:
    if isinstance(value, bytes):
        return {BASE64: base64.b64encode(value).decode("ascii")}
    raise TypeError(f"{type(value).__name__} is not written as JSON")
