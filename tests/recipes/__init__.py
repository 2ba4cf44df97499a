"""Tasks with a known answer, by kind of input: data that are generated, and experiments that learn them.

Rows are of three classes, `CLASSES`. In each row `k` elements are active, and the height of a row grows with `k` at the
rate of its class. An input shows the class by what the active elements are, and the height by how many there are.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchmetrics.functional import matthews_corrcoef, r2_score

from eir_seq.config.validation import validate_experiment
from eir_seq.training.run import train
from tests.recipes.generated import share_right

CLASSES = ("Asia", "Europe", "Africa")
BASE, RATE = (120.0, 130.0, 140.0), (3.5, 5.0, 10.0)
"""The height of a row of each class without active elements, and what each of them adds."""
CLASS: Mapping[str, Any] = {"origin": {"type": "classification", "column": "origin"}}
HEIGHT: Mapping[str, Any] = {"height": {"type": "regression", "column": "height"}}

TARGETS = ((-5,), (-4,), (-3,), (-2, -1))
"""Columns of each target, from the end of a row: origin, height, size, days and died."""

MakeRow = Callable[[Path, str, int, np.random.Generator], tuple[str, int]]
"""Writes the input of a row: folder, its id and class; gives the cell of the table, and `k`."""


@dataclass(frozen=True)
class Tables:
    """The tables of a task: training rows (of which validation rows are drawn) and test rows."""

    train: Path
    test: Path


def write_tables(
    folder: Path, column: str, make: MakeRow, *, per_class: int, test: int, seed: int = 0, classes: int = 3
) -> Tables:
    """Write the inputs and tables of a task.

    Args:
        folder: where they go.
        column: that names the inputs.
        make: see `MakeRow`.
        per_class: rows of each class.
        test: rows of them that are kept for testing.
        seed: of all that is random.
        classes: how many there are.
    """
    return write_inputs(folder, {column: make}, per_class=per_class, test=test, seed=seed, classes=classes)


def write_inputs(
    folder: Path,
    makes: Mapping[str, MakeRow],
    *,
    per_class: int,
    test: int,
    seed: int = 0,
    classes: int = 3,
    lacking: int = 0,
) -> Tables:
    """Write the inputs and tables of a task with several inputs, each with active elements of its own.

    The height of a row is the mean over the inputs. `days` and `died` are a survival time: rows of the first class are
    all censored, the others die, the taller the earlier. `size` is the height less 50.

    Args:
        folder: where they go.
        makes: by column, what writes its input.
        per_class: rows of each class.
        test: rows of them that are kept for testing.
        seed: of all that is random.
        classes: how many there are.
        lacking: rows that lack each input; then a tenth of the targets are missing, too.
    """
    random, chance = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    rows = []
    for index in range(per_class * classes):
        number, name = index % classes, f"row{index}"
        files = [name if len(makes) == 1 else f"{name}_{column}" for column in makes]
        made = [make(folder, file, number, random) for file, make in zip(files, makes.values(), strict=True)]
        heights = [BASE[number] + RATE[number] * k + random.normal() for _, k in made]
        height = sum(heights) / len(heights)
        days = max(50.0, (700 if number else 1000) - 1.5 * (height - 140) + chance.normal(0, 10))
        targets = [CLASSES[number], f"{height:.3f}", f"{height - 50:.3f}", f"{days:.2f}", str(int(number > 0))]
        rows.append([name, *(cell for cell, _ in made), *targets])
    if lacking:
        _empty(rows, len(makes), lacking, chance)
    order = random.permutation(len(rows))
    tables = Tables(folder / "train.csv", folder / "test.csv")
    for path, chosen in ((tables.test, order[:test]), (tables.train, order[test:])):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("id", *makes, "origin", "height", "size", "days", "died"))
            writer.writerows(rows[place] for place in chosen)
    return tables


def _empty(rows: list[list[str]], inputs: int, lacking: int, random: np.random.Generator) -> None:
    """Empty cells of inputs, and a tenth of the targets; no row loses all inputs, or all targets."""
    for column in range(1, 1 + inputs):
        for row in random.choice(len(rows), lacking, replace=False):
            if any(rows[row][other] for other in range(1, 1 + inputs) if other != column):
                rows[row][column] = ""
    for row in rows:
        lost = random.random(len(TARGETS)) < 0.1
        if not lost.all():
            for columns in (columns for columns, gone in zip(TARGETS, lost, strict=True) if gone):
                for column in columns:
                    row[column] = ""


def scores(
    tables: Tables,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    *,
    epochs: int,
    run: Path,
    **sections: Any,
) -> dict[str, float]:
    """Train and give the score on the test rows of each output: MCC of classes, R2 of numbers, c-index of survival, the
    explained share of the variance of arrays and pictures, the accuracy of elements of arrays of classes, the share of
    generated arrays and pictures that show what the true ones show.

    Args:
        tables: of the task.
        inputs: sections of the experiment.
        outputs: sections of the experiment.
        epochs: of training.
        run: the run folder.
        sections: others, and `seed`; in place of the usual settings.
    """
    usual: dict[str, Any] = {
        "data": {"batch_size": 32, "validation": 0.05, "cache_dir": str(run.parent / "cache")},
        "fusion": {"type": "mlp-residual"},
        "optimizer": {"type": "adamw", "lr": 2e-3, "weight_decay": 1e-3},
        "scheduler": {"type": "linear", "warmup": 0.1},
        "trainer": {"accelerator": "cpu"},
    }
    settings: dict[str, Any] = {name: {**section, **sections.get(name, {})} for name, section in usual.items()}
    if (fusion := sections.get("fusion")) is not None:
        settings["fusion"] = dict(fusion)
    settings |= {name: section for name, section in sections.items() if name not in usual}
    settings["data"] |= {"train": str(tables.train), "test": str(tables.test), "id": "id"}
    settings["trainer"] |= {"max_epochs": epochs}
    train(validate_experiment({"inputs": inputs, "outputs": outputs, **settings, "run": {"dir": str(run)}}))
    measured = json.loads((run / "result.json").read_text(encoding="utf-8"))["test"]
    with (run / "predictions" / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for name, output in outputs.items():
        if output["type"] == "survival":
            found[name] = measured[name]["c_index"]
            continue
        if output.get("loss") == "diffusion":
            found[name] = share_right(rows, name, run / "predictions", tables.test.parent)
            continue
        if output["type"] in ("array", "image"):
            files = [(run / "predictions" / row[name], row[f"{name}_true"]) for row in rows]
            predicted, true = (np.stack([_array(str(file)) for file in column]) for column in zip(*files, strict=True))
            classes = output.get("loss") == "categorical"
            found[name] = float((predicted == true).mean()) if classes else _explained(predicted, true)
            continue
        known = [row for row in rows if row[f"{name}_true"] != ""]
        measure = {"classification": _mcc, "regression": _r2}[output["type"]]
        found[name] = measure([row[name] for row in known], [row[f"{name}_true"] for row in known])
    return found


def _array(file: str) -> NDArray[Any]:
    """The values of a .npy file, or of a picture from 0 to 1."""
    if file.endswith(".npy"):
        array: NDArray[Any] = np.load(file)
        return array
    with Image.open(file) as picture:
        return np.asarray(picture) / 255


def _explained(predicted: NDArray[Any], true: NDArray[Any]) -> float:
    """One minus the MSE relative to the variance of the elements; missing values are left out."""
    return float(1 - np.nanmean((predicted - true) ** 2) / np.nanmean((true - np.nanmean(true, axis=0)) ** 2))


def _mcc(predicted: Sequence[str], true: Sequence[str]) -> float:
    numbers = {name: number for number, name in enumerate(sorted({*predicted, *true}))}
    found, expected = (torch.tensor([numbers[name] for name in names]) for names in (predicted, true))
    return float(matthews_corrcoef(found, expected, task="multiclass", num_classes=max(2, len(numbers))))


def _r2(predicted: Sequence[str], true: Sequence[str]) -> float:
    found, expected = (torch.tensor([float(value) for value in values]) for values in (predicted, true))
    return float(r2_score(found, expected))
