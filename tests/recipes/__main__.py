"""Runs the tasks of EIR's end-to-end tests and writes the table of docs/results.md.

Examples:
    python -m tests.recipes --list
    python -m tests.recipes --write docs/results.md

Each cell is trained with three seeds; scores are those of 200 held-out rows. What is finished is kept in a JSON file
(`--results`), so that the same command goes on after an interruption; a cell whose definition changed is run anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tests.recipes.cells import CELLS, Cell
from tests.recipes.language import LANGUAGE

EVERY_CELL: list[Cell] = [*CELLS, *LANGUAGE]
SEEDS = 3
BEGIN, END = "<!-- recipes -->", "<!-- end of recipes -->"
Results = dict[str, dict[str, Any]]
"""By key, ``{"scores": {output: score}, "seconds": s}``."""


def key(cell: Cell, seed: int) -> str:
    """Names a cell with all that its results depend on."""
    plain = json.dumps([str(replace(cell, makes={})), list(cell.makes)])
    return f"{cell.name} | {seed} | {hashlib.sha256(plain.encode()).hexdigest()[:8]}"


def finished(cell: Cell, results: Results, seeds: int) -> list[dict[str, Any]]:
    """What there is of a cell."""
    return [results[name] for seed in range(seeds) if (name := key(cell, seed)) in results]


def expected(cells: Sequence[Cell], results: Results, seeds: int) -> float:
    """Seconds that the rest will take: those of other seeds of a cell, or else of rows of other cells."""
    steps = {cell.name: cell.per_class * cell.classes * cell.epochs for cell in EVERY_CELL}
    done = [(cell, one["seconds"]) for cell in EVERY_CELL for one in finished(cell, results, seeds)]
    rate = sum(s for _, s in done) / sum(steps[cell.name] for cell, _ in done) if done else 0.003
    total = 0.0
    for cell in cells:
        own = [one["seconds"] for one in finished(cell, results, seeds)]
        total += (seeds - len(own)) * (fmean(own) if own else rate * steps[cell.name])
    return total


def table(cells: Sequence[Cell], results: Results, seeds: int) -> str:
    """The table of docs/results.md."""
    lines = [
        "| task: model | EIR's threshold | mean of seeds, held-out rows | standard deviation | epochs | seconds a run |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for cell in cells:
        found = finished(cell, results, seeds)
        if not found:
            lines.append(f"| {cell.name} | {cell.bar} | not run | | {cell.epochs} | |")
            continue
        scores = {output: [one["scores"][output] for one in found] for output in found[0]["scores"]}
        means = ", ".join(f"{output} {fmean(values):.3f}" for output, values in scores.items())
        spread = ", ".join(f"{stdev(values):.3f}" for values in scores.values()) if len(found) > 1 else ""
        if len(found) < seeds:
            means += f" ({len(found)} of {seeds} seeds)"
        seconds = fmean(one["seconds"] for one in found)
        lines.append(f"| {cell.name} | {cell.bar} | {means} | {spread} | {cell.epochs} | {seconds:.0f} |")
    return "\n".join(lines)


def write(path: Path, content: str) -> None:
    """Put the table between its marks in a document."""
    document = path.read_text(encoding="utf-8")
    if not re.search(f"{BEGIN}.*{END}", document, re.DOTALL):
        sys.exit(f"{path} has no {BEGIN} and {END}")
    found = re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n\n{content}\n\n{END}", document, flags=re.DOTALL)
    path.write_text(found, encoding="utf-8")


def run(cells: Sequence[Cell], results: Results, path: Path, seeds: int, small: Mapping[str, int]) -> None:
    """Train what is not finished, and keep each result at once."""
    for cell in cells:
        for seed in range(seeds):
            if (name := key(cell, seed)) in results:
                continue
            print(f"{cell.name}, seed {seed}; about {expected(cells, results, seeds) / 60:.0f} min to go", flush=True)
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                scores = cell.run(Path(folder), seed, **small)
            results[name] = {"scores": scores, "seconds": time.perf_counter() - began}
            path.write_text(json.dumps(results, indent=1), encoding="utf-8")
            print("  ", ", ".join(f"{output} {score:.3f}" for output, score in scores.items()), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.recipes", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--list", action="store_true", help="list the cells and end")
    parser.add_argument("--only", default="", metavar="PATTERN", help="cells whose name this regular expression finds")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--results", type=Path, default=Path("recipes.json"), help="what is finished (recipes.json)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table of all cells into a document")
    parser.add_argument("--small", action="store_true", help="40 rows of each class, 1 epoch: does everything run?")
    asked = parser.parse_args(arguments)
    cells = [cell for cell in EVERY_CELL if re.search(asked.only, cell.name)]
    results: Results = json.loads(asked.results.read_text(encoding="utf-8")) if asked.results.is_file() else {}
    if asked.list:
        print("\n".join(cell.name for cell in cells))
        print(f"about {expected(cells, results, asked.seeds) / 60:.0f} min")
        return
    small = {"per_class": 40, "epochs": 1} if asked.small else {}
    if asked.small and asked.write:
        parser.error("--small measures nothing; leave out --write")
    run(cells, {} if asked.small else results, Path("/dev/null") if asked.small else asked.results, asked.seeds, small)
    if asked.write:
        write(asked.write, table(EVERY_CELL, results, asked.seeds))


if __name__ == "__main__":
    main()
