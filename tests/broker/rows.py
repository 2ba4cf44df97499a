"""Two numbers a row, and an experiment whose output reads the one that says nothing about its target."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment


def write_rows(path: Path, rows: int, seed: int, *, lacking: bool = False) -> None:
    """Columns id, left, right, target (of left), side (of left) and other (of right)."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "left", "right", "target", "side", "other"])
        for row in range(rows):
            left, right = draw.gauss(0, 1), draw.gauss(0, 1)
            shown = "" if lacking and row % 4 == 0 else f"{left:.4f}"
            cells = [f"{2 * left + 1:.4f}", "west" if left < 0 else "east", f"{right:.4f}"]
            writer.writerow([f"{path.stem}{row}", shown, f"{right:.4f}", *cells])


def experiment(folder: Path, *, lacking: bool = False, rows: int = 240, **changes: Any) -> ExperimentConfig:
    """`target` reads `right` alone; `changes` are merged into sections, but for
    those of kinds."""
    write_rows(folder / "train.csv", rows, 1, lacking=lacking)
    write_rows(folder / "test.csv", 100, 2, lacking=lacking)
    mlp = {"model_type": "mlp", "model_init_config": {"hidden_size": 8, "num_layers": 1}}
    config: dict[str, Any] = {
        "name": "messages",
        "data": {
            "train": str(folder / "train.csv"),
            "test": str(folder / "test.csv"),
            "validation": 0.2,
            "id": "id",
            "batch_size": 16,
            "cache_dir": str(folder / "cache"),
        },
        "inputs": {
            "left": {"type": "tabular", "continuous": ["left"], "model": mlp},
            "right": {"type": "tabular", "continuous": ["right"], "model": mlp},
        },
        "fusion": {"type": "pass-through", "inputs": {"target": "right", "other": "left"}},
        "outputs": {
            "target": {"type": "regression", "column": "target"},
            "other": {"type": "regression", "column": "other"},
        },
        "trainer": {"max_epochs": 6, "accelerator": "cpu"},
        "run": {"dir": str(folder / "run")},
    }
    config["optimizer"] = {"type": "adamw", "lr": 0.02}
    for key, value in changes.items():
        merges = isinstance(value, dict) and key not in ("inputs", "outputs", "fusion", "optimizer")
        config[key] = {**config.get(key, {}), **value} if merges else value
    return validate_experiment(config)


MESSAGE = {"from": "inputs.left", "to": "outputs.target", "projection": "linear", "fusion": "additive"}
