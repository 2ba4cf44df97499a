"""Tables of the terminal, and the same rows as CSV."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from eir_seq.errors import printable
from eir_seq.files import csv_text

WIDE = 200
"""Characters of a line where nothing says how many fit."""


def print_csv(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows as CSV; None is an empty cell."""
    print(csv_text([titles, *(["" if cell is None else cell for cell in row] for row in rows)]), end="")


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Rows under their titles, those of `right` at the right of their column."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", overflow="fold", no_wrap=title in right)
    for row in rows:
        table.add_row(*map(printable, row))
    width = shutil.get_terminal_size((WIDE, 24)).columns if sys.stdout.isatty() else WIDE
    Console(width=width, highlight=False, file=sys.stdout).print(table, markup=False)


def size_text(count: float) -> str:
    """Bytes for people: ``3.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def value_text(value: float | None) -> str:
    """A metric for people."""
    if value is None:
        return ""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.4g}"


def minute(time: str) -> str:
    """An ISO time to the minute."""
    return time[:16].replace("T", " ")
