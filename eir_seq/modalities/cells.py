"""Cells that hold more than a text: lists and objects as JSON."""

from __future__ import annotations

import json
from typing import Any


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
    """The value as `parse_cell` reads it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
