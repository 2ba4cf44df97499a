"""``runs compare``: the runs below a folder side by side."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from eir_seq.commands.tables import WIDE, print_csv
from eir_seq.errors import UserError, printable
from eir_seq.machine import cannot_write
from eir_seq.remote import RemoteFolder, by_url, is_url, url_fault

if TYPE_CHECKING:
    from eir_seq.inference.compare import Comparison


def compare_runs(place: str, *, over: list[str], by: list[str], metric: str | None, as_csv: bool) -> None:
    """Print tables, and write them and a page next to the runs, in a folder by path or URL.

    Raises:
        UserError: no such folder, no runs, keys or a metric that they have not, or it cannot be written.
    """
    from eir_seq.inference.compare import compare
    from eir_seq.inference.compare_page import PAGE, write_page
    from eir_seq.inference.compare_table import write_markdown
    from eir_seq.inference.run_list import runs_at

    if is_url(place) and (fault := url_fault(place, "", written=True)) is not None:
        raise UserError(fault)
    with runs_at(place) as folder:
        comparison = compare(folder, over, by=by, metric=metric)
        table, markdown, page = written = folder / "compare.csv", folder / "compare.md", folder / PAGE
        for path in written if is_url(place) else ():
            path.unlink(missing_ok=True)  # of the last comparison; here, it cannot be written
        comparison.write_csv(table)
        write_markdown(comparison, markdown)
        try:
            write_page(comparison, folder, page)
        except OSError as error:
            raise cannot_write(page, error) from None
        for path in written if is_url(place) else ():
            RemoteFolder(place, "").store(path, path.name)
    if as_csv:
        print_csv(*comparison.table())
        return
    names = [by_url(str(path)) for path in written]
    _print(comparison, names[0])
    print(f"written: {', '.join(names)}")


def _print(comparison: Comparison, path: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from eir_seq.inference.compare_page import best_two, p_text
    from eir_seq.inference.compare_table import GAP, fitted, heading

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
        if (test := best_two(comparison, section)) is not None:
            console.print(
                f"first minus second: {test.difference:.4g} (95 % interval {test.low:.4g} to {test.high:.4g}; paired "
                f"t-test over {test.pairs} pairs: p = {p_text(test.p)})",
                markup=False,
                soft_wrap=True,
            )
        console.print()
    if comparison.pruned:
        console.print(printable(f"pruned: {', '.join(comparison.pruned)}"), markup=False, soft_wrap=True)
    for name, status in comparison.problems:
        console.print(printable(f"without a result: {name}: {status}"), markup=False, soft_wrap=True)
