"""``cache list`` and ``cache clean``: what the cache folder holds, and how to get rid of it."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from eir_seq.cache import Cache, Found
from eir_seq.commands.parser import UserParser
from eir_seq.commands.tables import size_text
from eir_seq.config.cache import size_in_bytes
from eir_seq.errors import Fault, UserError
from eir_seq.files import default_folder

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_WIDE = 200
"""Characters of a line where nothing says how many fit."""


def run(arguments: list[str]) -> int:
    """List or remove what is cached."""
    parser = UserParser(prog="python -m eir_seq cache", description="Encoded rows and trained tokenizers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="list|clean", parser_class=UserParser)
    listing = commands.add_parser("list", help="list the entries, most recently used first")
    cleaning = commands.add_parser(
        "clean",
        help="remove leftovers of killed runs, damaged and outdated entries, and what the options select",
        description="Remove what killed runs, damage and earlier versions left, and whatever else is asked for. What "
        "a run uses stays. Everything is rebuilt on demand.",
    )
    for command in (listing, cleaning):
        command.add_argument("--dir", type=Path, help="the cache folder, as cache.dir names it; default: the user's")
    cleaning.add_argument(
        "--older-than", type=_seconds, metavar="AGE", help="remove entries not used for that long: 30d, 12h, 2w"
    )
    cleaning.add_argument(
        "--max-size", type=_bytes, metavar="SIZE", help="remove the least recently used entries down to that size: 5GB"
    )
    cleaning.add_argument("--all", action="store_true", help="everything")
    cleaning.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    flags = parser.parse_args(arguments)
    folder = (flags.dir or default_folder()).expanduser()
    if flags.dir is not None and not folder.is_dir():
        raise UserError(Fault("--dir", f"{folder} is not a folder"))
    cache = Cache(folder)
    if flags.command == "list":
        _list(cache)
    else:
        _clean(cache, flags)
    return 0


def _list(cache: Cache) -> None:
    entries = cache.entries()[::-1]
    if entries:
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for title in ("kind", "of"):
            table.add_column(title, overflow="fold")
        for title in ("rows", "size", "created", "last used"):
            table.add_column(title, justify="right", no_wrap=True)
        table.add_column("")
        for group in _grouped(entries):
            entry = group[0]
            rows = "" if entry.label.rows is None else f"{entry.label.rows:,}"
            size = size_text(sum(other.bytes for other in group))
            state = "in use" if any(other.in_use for other in group) else ""
            table.add_row(*_named(group), rows, size, _ago(entry.created), _ago(entry.used), state)
        Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False).print(table, markup=False)
    print(f"{cache.folder}: {_summary(entries)}")


def _clean(cache: Cache, flags: argparse.Namespace) -> None:
    now, entries = time.time(), cache.entries()
    chosen = [
        entry
        for entry in entries
        if flags.all or not entry.readable or (flags.older_than is not None and now - entry.used > flags.older_than)
    ]
    if flags.max_size is not None:
        left = sum(entry.bytes for entry in entries) - sum(entry.bytes for entry in chosen)
        for entry in entries:
            if left > flags.max_size and entry not in chosen and not entry.in_use:
                chosen.append(entry)
                left -= entry.bytes
    used = [entry for entry in chosen if entry.in_use]
    removed = [entry for entry in chosen if not entry.in_use and (flags.dry_run or cache.remove(entry))]
    leftovers = cache.leftovers()
    if not flags.dry_run:
        cache.shrink()
    for group in _grouped(removed):
        size = size_text(sum(entry.bytes for entry in group))
        print(f"{' '.join(_named(group))}: {size}, last used {_ago(group[0].used)}")
    would = "would be removed" if flags.dry_run else "removed"
    killed = f", and what {len(leftovers)} killed builds left" if leftovers else ""
    print(f"{cache.folder}: {would}: {_summary(removed)}{killed}")
    if used:
        print(f"in use, and left alone: {_summary(used)}")


# ------------------------------------------------------------------------------------------------------------- words


def _grouped(entries: list[Found]) -> list[list[Found]]:
    """Each entry by itself, but those together that cannot be used and that nothing tells apart."""
    groups: dict[object, list[Found]] = {}
    for entry in entries:
        groups.setdefault(entry.path if entry.readable else entry.label, []).append(entry)
    return list(groups.values())


def _named(group: list[Found]) -> tuple[str, str]:
    label = group[0].label
    return label.kind, label.of if len(group) == 1 else f"{len(group):,} {label.of}"


def _summary(entries: list[Found]) -> str:
    count = len(entries)
    return f"{count:,} {'entry' if count == 1 else 'entries'}, {size_text(sum(entry.bytes for entry in entries))}"


def _ago(moment: float) -> str:
    seconds = max(0.0, time.time() - moment)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name} ago"
    return "now"


def _seconds(text: str) -> float:
    """An age such as ``30d`` in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age; write for example 30d, 12h or 2w")
    return float(match[1]) * _UNITS[match[2]]


def _bytes(text: str) -> int:
    """A size such as ``5GB`` in bytes."""
    try:
        return size_in_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
