"""``runs compare DIR``: the runs below a folder side by side."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from eir_seq.commands.models import UserParser
from eir_seq.errors import printable

WIDE = 200
"""Characters of a line where nothing says how many fit."""


def run(arguments: list[str]) -> int:
    """Compare runs: print tables and write them next to the runs."""
    parser = UserParser(prog="python -m eir_seq runs", description="Results of finished runs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="compare", parser_class=UserParser)
    comparing = commands.add_parser("compare", help="one row per setting, mean and standard deviation over seeds")
    comparing.add_argument("folder", type=Path, help="a sweep, or any folder with runs below it")
    comparing.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="KEY",
        help="a config key that repeats a run, as seed and data.split_seed do, e.g. data.train; may be given again",
    )
    flags = parser.parse_args(arguments)
    _compare(flags.folder, flags.over)
    return 0


def _compare(folder: Path, over: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from eir_seq.inference.compare import compare
    from eir_seq.inference.compare_table import GAP, fitted, heading, write_markdown

    comparison = compare(folder, over)
    path = folder / "compare.csv"
    comparison.write_csv(path)
    write_markdown(comparison, folder / "compare.md")
    width = shutil.get_terminal_size((WIDE, 24)).columns
    console = Console(width=width, highlight=False, file=sys.stdout)
    for section in comparison.sections:
        fitting = fitted(comparison, section, width)
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        for column in fitting.columns:
            table.add_column(printable(column.title), no_wrap=True)
        for cells in fitting.rows():
            table.add_row(*map(printable, cells))
        console.print(heading(section), markup=False)
        console.print(table, markup=False)
        if fitting.left_out:
            columns = "column" if fitting.left_out == 1 else "columns"
            console.print(f"... {fitting.left_out} more {columns} in {path}", markup=False, soft_wrap=True)
        console.print()
    for name, status in comparison.problems:
        console.print(printable(f"without a result: {name}: {status}"), markup=False, soft_wrap=True)
    print(f"written: {path}, {folder / 'compare.md'}")
