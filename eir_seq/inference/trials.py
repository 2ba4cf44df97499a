"""The tables of searches, as ``DIR/trials.csv`` and ``DIR/sweep.json`` have them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eir_seq.errors import Fault, UserError
from eir_seq.files import open_text, read_json

TRIALS, SWEEP = "trials.csv", "sweep.json"


@dataclass(frozen=True)
class TrialRow:
    """A line of the table: the first objective's value, and the value of each key that was searched."""

    number: int
    state: str
    value: float | None
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A search.

    Attributes:
        folder: of the search.
        objective: name and direction (``minimize`` or ``maximize``) of what was searched for first.
        space: the keys that were searched, each with whether its scale is logarithmic.
        trials: all of them, by number.
    """

    folder: Path
    objective: tuple[str, str]
    space: Mapping[str, bool]
    trials: tuple[TrialRow, ...]


def read_sweeps(folder: Path) -> tuple[Sweep, ...]:
    """The searches in and below a folder.

    Raises:
        UserError: a table is damaged.
    """
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if TRIALS in files and SWEEP in files:
            found.append(read_sweep(Path(place)))
    return tuple(found)


def read_sweep(folder: Path) -> Sweep:
    """The search in a folder.

    Raises:
        UserError: its table is damaged.
    """
    try:
        content = read_json(folder / SWEEP)
        column, direction = next(iter(content["directions"].items()))
        name = (content.get("objectives") or [column])[0]
        space = {key: bool(item.get("log")) for key, item in content.get("space", {}).items()}
        with open_text(folder / TRIALS) as file:
            trials = tuple(_trial(row, column, space) for row in csv.DictReader(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration, csv.Error) as error:
        detail = " ".join(str(error).split())[:200]
        message = f"is damaged ({detail}); the command of the search writes it again"
        raise UserError(Fault(str(folder / TRIALS), message)) from None
    return Sweep(folder, (str(name), str(direction)), space, trials)


def _trial(row: Mapping[str, str], column: str, space: Mapping[str, bool]) -> TrialRow:
    params = {key: _value(row[key]) for key in space if row.get(key)}
    return TrialRow(int(row["number"]), row["state"], float(row[column]) if row[column] else None, params)


def _value(text: str) -> Any:
    """A value in Hydra's grammar: a number, true, false, null, or text."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    words: dict[str, Any] = {"true": True, "false": False, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)  # a list, or text in quotes
    except ValueError:
        return text
