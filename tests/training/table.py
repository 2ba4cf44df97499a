"""A small table of texts, and an experiment on it that trains in a second."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

from eir_seq.config.schema import ExperimentConfig

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def write_table(path: Path, rows: int = 60, seed: int = 0, labels: bool = True) -> Path:
    """Columns id, text, mood, score; the mood can be told from the words."""
    draw = random.Random(seed)
    words = {"good": ["bright", "warm", "kind"], "bad": ["grey", "cold", "rude"]}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "mood", "score"])
        for row in range(rows):
            mood = "good" if row % 2 else "bad"
            text = " ".join(draw.choice([*words[mood], "day", "and", "a"]) for _ in range(draw.randint(3, 12)))
            writer.writerow([f"{path.stem}-{row}", text, mood if labels else "", draw.random() if labels else ""])
    return path


def table_experiment(folder: Path, **changes: Any) -> ExperimentConfig:
    """An experiment on a table in `folder`, which is written if absent; the run goes to ``folder/run``."""
    for name, rows in (("train", 60), ("test", 12)):
        if not (folder / f"{name}.csv").exists():
            write_table(folder / f"{name}.csv", rows, seed=rows)
    config: dict[str, Any] = {
        "name": "moods",
        "data": {
            "train": str(folder / "train.csv"),
            "validation": 0.2,
            "test": str(folder / "test.csv"),
            "id": "id",
            "batch_size": 8,
            "cache_dir": str(folder / "cache"),
        },
        "inputs": {
            "text": {
                "type": "sequence",
                "column": "text",
                "max_length": 12,
                "model": {"model_type": "bert", "model_init_config": TINY},
            }
        },
        "fusion": {"type": "mlp-residual", "hidden_size": 8, "num_layers": 1},
        "outputs": {
            "mood": {"type": "classification", "column": "mood"},
            "score": {"type": "regression", "column": "score"},
        },
        "optimizer": {"type": "adamw", "lr": 0.01},
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
        "run": {"dir": str(folder / "run")},
    }
    for key, value in changes.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    return ExperimentConfig.model_validate(config)
