"""``runs clean``: remove what finished runs left."""

from __future__ import annotations

import sys
from pathlib import Path

from eir_seq.commands.tables import print_csv, print_table, size_text
from eir_seq.errors import Fault, UserError
from eir_seq.inference.run_cleaning import Removable, ended_trials, removable, remove
from eir_seq.inference.run_list import find_runs
from eir_seq.machine import cannot_write
from eir_seq.remote import is_url, shown


def clean_runs(place: str, *, last: bool, yes: bool, dry_run: bool, as_csv: bool) -> None:
    """Show what can be removed below a folder, ask, and remove it.

    Args:
        place: any folder with runs below it.
        last: the optimizer state that `trainer.keep_optimizer_state` kept as well.
        yes: do not ask.
        dry_run: remove nothing.
        as_csv: print CSV instead of a table.

    Raises:
        UserError: no such folder, or it cannot be written.
    """
    if is_url(place):
        raise UserError(Fault(shown(place), "only runs in local folders are cleaned"))
    folder = Path(place)
    ended, runs = ended_trials(folder) if folder.is_dir() else frozenset(), find_runs(folder)
    found = [items for run in runs if (items := removable(run, ended, last=last))]
    everything = [item for items in found for item in items]
    titles = ("run", "what", "kind", "bytes")
    if as_csv:
        print_csv(titles, [(i.run.name, i.path.relative_to(i.run.folder), i.kind, i.size) for i in everything])
    elif everything:
        rows = [[items[0].run.name, _kinds(items), size_text(sum(i.size for i in items))] for items in found]
        print_table(("run", "what", "size"), rows, right=("size",))
    # With --csv the table alone is on standard output.
    stream = sys.stderr if as_csv else sys.stdout
    total = size_text(sum(item.size for item in everything))
    where = f"{len(found):,} of {len(runs):,} {'run' if len(runs) == 1 else 'runs'}"
    if not everything:
        print(f"{folder}: there is nothing to remove", file=stream)
    elif dry_run:
        print(f"{folder}: would be removed: {total} of {where}", file=stream)
    elif yes or _confirmed(f"remove {total} of {where}? [y/N] "):
        gone: list[Removable] = []
        for items in found:
            try:
                gone += remove(items, ended, last=last)
            except OSError as error:
                raise cannot_write(items[0].run.folder, error) from None
        print(f"{folder}: removed: {size_text(sum(item.size for item in gone))}", file=stream)
        if len(gone) < len(everything):
            print(f"left alone, as runs have begun there: {len(everything) - len(gone)} items", file=stream)
    else:
        print("nothing was removed (--yes removes it without asking)", file=stream)


def _kinds(items: list[Removable]) -> str:
    counts = {kind: sum(item.kind == kind for item in items) for kind in dict.fromkeys(item.kind for item in items)}
    return ", ".join(kind if count == 1 else f"{count} × {kind}" for kind, count in counts.items())


def _confirmed(question: str) -> bool:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
