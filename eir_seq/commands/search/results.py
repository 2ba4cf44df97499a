"""What a search leaves: ``sweep.json`` (what it is), ``trials.csv`` (every trial), and the table that it ends with."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eir_seq.cache.owners import temporary_name
from eir_seq.commands.search.objective import Objective
from eir_seq.commands.search.study import Trial
from eir_seq.config.sweep_settings import Direction
from eir_seq.config.sweep_space import Dimension
from eir_seq.config.sweeps import best_first
from eir_seq.errors import printable
from eir_seq.files import csv_text, read_json
from eir_seq.machine import writing
from eir_seq.training.redaction import redact, redact_words

TRIALS, SWEEP = "trials.csv", "sweep.json"
SHOWN = 10
"""Trials of the table that is printed."""


def value_names(objectives: Sequence[Objective]) -> list[str]:
    """The columns of the values: ``value``, or the names of several objectives."""
    return ["value"] if len(objectives) == 1 else [item.name for item in objectives]


def write_trials(
    folder: Path, trials: Sequence[Trial], space: Sequence[Dimension], objectives: Sequence[Objective]
) -> None:
    """Write the table of trials, whole or not at all."""
    names = value_names(objectives)
    rows: list[list[object]] = [["number", "state", *names, "run_dir", *(item.key for item in space)]]
    for trial in trials:
        values = [repr(value) for value in trial.values] or [""] * len(names)
        params = [trial.params.get(item.key, "") for item in space]
        run_dir = trial.run_dir.removeprefix(f"{folder.absolute()}/")
        rows.append([trial.number, trial.state, *values, run_dir, *redact_words(params)])
    _write(folder / TRIALS, csv_text(rows))


def write_sweep(folder: Path, content: Mapping[str, Any]) -> None:
    """Write what the search is."""
    _write(folder / SWEEP, json.dumps(redact(content), indent=2, ensure_ascii=False) + "\n")


def read_directions(folder: Path) -> dict[str, Direction]:
    """The columns of values in the table of a search, and the direction of each.

    Raises:
        OSError: there is no such folder.
        ValueError: it is no folder of a search.
    """
    content = read_json(folder / SWEEP)
    if not isinstance(content, dict) or not isinstance(content.get("directions"), dict):
        raise ValueError("no search")
    return dict(content["directions"])


def best_trials(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Complete trials from the best to the worst; of several objectives those that no other trial beats in all."""
    complete = [trial for trial in trials if trial.state == "complete"]
    if len(objectives) == 1:
        order = best_first([trial.values[0] for trial in complete], objectives[0].direction)
        return [complete[place] for place in order]
    signs = [1 if item.direction == "minimize" else -1 for item in objectives]
    losses = [tuple(sign * value for sign, value in zip(signs, t.values, strict=True)) for t in complete]
    return [
        trial
        for trial, mine in zip(complete, losses, strict=True)
        if not any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in losses)
    ]


def print_results(
    folder: Path,
    trials: Sequence[Trial],
    space: Sequence[Dimension],
    objectives: Sequence[Objective],
    words: Sequence[str],
) -> None:
    """The best trials, how many ended how, and the command that trains the best one again."""
    from rich.console import Console
    from rich.table import Table

    best = best_trials(trials, objectives)
    counts = {state: sum(trial.state == state for trial in trials) for state in dict.fromkeys(t.state for t in trials)}
    print(", ".join(f"{count} {state}" for state, count in counts.items()) or "no trials")
    if best:
        names = [item.name for item in objectives]
        table = Table("trial", *names, *_short([item.key for item in space]), box=None, pad_edge=False)
        for trial in best[:SHOWN]:
            values = [f"{value:.6g}" for value in trial.values]
            params = redact_words([_rounded(trial.params.get(item.key, ""), item) for item in space])
            table.add_row(str(trial.number), *values, *map(printable, params))
        Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table, markup=False)
        what = "best" if len(objectives) == 1 else "first of these"
        print(f"the {what} again: {command(words, best[0])}")
    if failed := [trial for trial in trials if trial.state in ("failed", "timeout")]:
        last = failed[-1]
        print(printable(f"trial {last.number} {last.state}: {last.message}; what trials printed is in {folder}/jobs"))
    print(f"sweep: {folder}; compare with: python -m eir_seq runs compare {shlex.quote(str(folder))}", flush=True)


def command(words: Sequence[str], trial: Trial) -> str:
    """The command line that trains with the values of a trial."""
    chosen = [f"{key}={text}" for key, text in trial.params.items()]
    return shlex.join(["python", "-m", "eir_seq", *redact_words([*words, *chosen])])


def _short(keys: Sequence[str]) -> list[str]:
    """The last parts of keys, as many as tell each from the others."""
    parts = [key.split(".") for key in keys]
    return [
        next(
            ".".join(mine[-count:])
            for count in range(1, len(mine) + 1)
            if count == len(mine) or sum(other[-count:] == mine[-count:] for other in parts) == 1
        )
        for mine in parts
    ]


def _rounded(text: str, item: Dimension) -> str:
    return f"{float(text):.4g}" if text and item.kind == "float" else text


def _write(path: Path, text: str) -> None:
    partial = path.with_name(temporary_name(path.name))
    with writing(path, partial):
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
