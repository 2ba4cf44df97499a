"""Columns with one tag per word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eir_seq.modalities.cells import parse_cell, write_cell
from eir_seq.modalities.sequence.cells import InputCells


def check_tags(
    given: Sequence[str | None],
    column: str,
    cells: InputCells,
    texts: Sequence[str],
    reasons: dict[int, list[str]],
    first: int = 0,
) -> list[str | None]:
    """The tags of each row as a JSON list of texts, None if they are missing; notes what is wrong with others.

    `cells` and `texts` are the input that holds the words, rows that have `reasons` already are left alone. `first`:
    the row of the file with which these begin.
    """
    found: list[str | None] = []
    for row, cell in enumerate(given, first):
        found.append(None)
        if cell is None or row in reasons:
            continue
        try:
            tags = _tags(parse_cell(cell))
        except ValueError as error:
            reasons.setdefault(row, []).append(f"{column!r} {error}")
            continue
        words = cells.content(texts[row - first]).words or ()
        if len(tags) == len(words):
            found[-1] = write_cell(tags)
        else:
            reasons.setdefault(row, []).append(f"{column!r} has {len(tags)} tags for {len(words)} words")
    return found


def _tags(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"is {str(value)[:40]!r}, not a list of tags")
    for number, tag in enumerate(value, 1):
        if isinstance(tag, bool) or not isinstance(tag, str | int) or not str(tag).strip():
            raise ValueError(f"has at word {number} {tag!r}, not a tag")
    return [str(tag) for tag in value]
