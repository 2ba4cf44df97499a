"""Arrays and pictures that outputs predict of a few rows at each evaluation: ``samples/OUTPUT/STEP.npz``.

The report draws them next to the true ones. At the end of a run there are also those of the best weights, as
``samples/OUTPUT/SPLIT.npz``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

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
        if not output.SAMPLE_ROWS or name not in found.targets:
            continue
        raw, places = found.of_labelled(name)
        target, count = found.targets[name], output.SAMPLE_ROWS
        if not len(raw):
            continue
        errors = output.errors(raw, target)
        even = np.unique(np.linspace(0, len(raw) - 1, min(count, len(raw))).round().astype(int)).tolist()
        worst = errors.argsort(descending=True, stable=True)[:count].tolist()
        chosen = torch.tensor([*even, *worst])
        arrays = output.samples(raw[chosen], target[chosen])
        folder = run_dir / FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{label}.npz"
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with writing(path, partial):
            with partial.open("wb") as file:
                np.savez_compressed(
                    file,
                    ids=np.array([found.ids[places[row]] for row in chosen.tolist()], dtype=np.str_),
                    errors=errors[chosen].double().numpy(),
                    even=np.array(len(even)),
                    **arrays,
                )
            os.replace(partial, path)


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
