"""Arrays and pictures that outputs predict of a few rows at each evaluation: ``samples/OUTPUT/STEP.npz``.

The report draws them next to the true ones. At the end of a run there are also those of the best weights, as
``samples/OUTPUT/SPLIT.npz``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eir_seq.files import MEGABYTE, open_regular
from eir_seq.machine import writing
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.reporting.sections import ShownRows
from eir_seq.training.evaluation import Evaluation

FOLDER = "samples"
MOST_STEPS = 100
"""Evaluations whose samples a report reads, the last ones."""
MOST_BYTES = 256 * MEGABYTE


def write_sample_arrays(run_dir: Path, label: str, outputs: Mapping[str, FittedOutput], found: Evaluation) -> None:
    """Keep what outputs that have `SAMPLE_ROWS` predict of as many rows, evenly spaced, and of the worst ones.

    Args:
        run_dir: the run folder.
        label: the step, or the split at the end of the run.
        outputs: by name.
        found: the evaluation.
    """
    for name, output in outputs.items():
        if not output.SAMPLE_ROWS:
            continue
        chosen = _generated(output, found) if name in found.written else _predicted(output, found)
        if chosen is None:
            continue
        folder = run_dir / FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{label}.npz"
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with writing(path, partial):
            with partial.open("wb") as file:
                arrays: dict[str, Any] = {
                    "ids": np.array(chosen.ids, dtype=np.str_),
                    "errors": np.array(chosen.errors, dtype=np.float64),
                    "even": np.array(chosen.even),
                    **chosen.arrays,
                }
                np.savez_compressed(file, **arrays)
            os.replace(partial, path)


def _predicted(output: FittedOutput, found: Evaluation) -> ShownRows | None:
    """Evenly spaced rows, and the worst ones; None if no row has a target."""
    if output.name not in found.targets or not len(found.targets[output.name]):
        return None
    raw, places = found.of_labelled(output.name)
    target = found.targets[output.name]
    errors = output.errors(raw, target)
    even = _even(len(raw), output.SAMPLE_ROWS)
    rows = [*even, *errors.argsort(descending=True, stable=True)[: output.SAMPLE_ROWS].tolist()]
    ids = [found.ids[places[row]] for row in rows]
    return ShownRows(ids, errors[rows].tolist(), len(even), output.samples(raw[rows], target[rows]))


def _generated(output: FittedOutput, found: Evaluation) -> ShownRows | None:
    """Evenly spaced rows of those that were generated; None if none of them has a target."""
    generated = found.written[output.name].arrays()
    if generated is None:
        return None
    positions, drawn, target = generated
    even = _even(len(positions), output.SAMPLE_ROWS)
    ids = dict(zip(found.rows, found.ids, strict=True))
    arrays = output.samples(drawn[even], target[even])
    squares = np.square(arrays["true"] - arrays["predicted"]).reshape(len(even), -1)
    return ShownRows([ids[positions[row]] for row in even], np.nanmean(squares, axis=1).tolist(), len(even), arrays)


def _even(rows: int, count: int) -> list[int]:
    """As many of the rows, evenly spaced."""
    found: list[int] = np.unique(np.linspace(0, rows - 1, min(count, rows)).round().astype(int)).tolist()
    return found


def read_sample_arrays(run_dir: Path) -> dict[str, dict[str, ShownRows]]:
    """By output and label what was kept: of steps in their order, then of splits.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged.
    """
    found: dict[str, dict[str, ShownRows]] = {}
    for folder in sorted((run_dir / FOLDER).glob("*/")):
        paths = {path.stem: path for path in folder.glob("*.npz") if not path.name.startswith(".")}
        steps = sorted((stem for stem in paths if stem.isdecimal()), key=int)[-MOST_STEPS:]
        labels = [*steps, *sorted(stem for stem in paths if not stem.isdecimal())]
        found[folder.name] = {label: _read(paths[label]) for label in labels}
    return found


def _read(path: Path) -> ShownRows:
    try:
        with open_regular(path, MOST_BYTES) as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
            ids, errors, even = arrays.pop("ids"), arrays.pop("errors"), int(arrays.pop("even"))
    except (KeyError, TypeError, EOFError) as error:
        raise ValueError(f"{path.name}: {error}") from None
    return ShownRows(ids.tolist(), errors.tolist(), even, arrays)
