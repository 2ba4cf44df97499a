"""``runs compare DIR``: the runs below a folder in one table."""

from __future__ import annotations

import sys
from pathlib import Path

from eir_seq.commands.models import UserParser


def run(arguments: list[str]) -> int:
    """Compare runs: print a table and write it beside them."""
    parser = UserParser(prog="python -m eir_seq runs", description="What finished runs have come to.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="compare", parser_class=UserParser)
    comparing = commands.add_parser("compare", help="one row per setting, mean and deviation over seeds")
    comparing.add_argument("folder", type=Path, help="a sweep, or any folder with runs below it")
    flags = parser.parse_args(arguments)
    _compare(flags.folder)
    return 0


def _compare(folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from eir_seq.inference.compare import compare

    comparison = compare(folder)
    comparison.write(folder)
    table = Table(*comparison.header(), box=None, pad_edge=False)
    for row in comparison.rows:
        table.add_row(*comparison.cells(row))
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(table, markup=False)
    for name, status in comparison.problems:
        console.print(f"without a result: {name}: {status}", markup=False, soft_wrap=True)
    print(f"written: {folder / 'compare.csv'}, {folder / 'compare.md'}")
