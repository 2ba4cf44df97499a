"""Small projects for the parts of the campaign: data and an experiment that trains in a second, and what a run left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from eir_seq.files import hash_file
from tests.training.table import TINY, write_table

Outcome = dict[str, str]
"""Files of a run by name, as hashes."""


def small(folder: Path, *, rows: int = 60, **changes: Any) -> list[str]:
    """Write a project with texts, classes and numbers into `folder`; gives the words of its training command.

    The run goes to ``run`` and the cache to ``cache``, both in `folder`. `changes` are merged into the experiment,
    section by section.
    """
    for name, count in (("train", rows), ("test", 12)):
        write_table(folder / f"{name}.csv", count, seed=count)
    experiment: dict[str, Any] = {
        "data": {
            "train": "train.csv",
            "validation": 0.2,
            "test": "test.csv",
            "id": "id",
            "batch_size": 16,
            "cache_dir": "cache",
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
        "run": {"dir": "run"},
    }
    write_experiment(folder, {**experiment, **_merged(experiment, changes)})
    return ["experiment=small"]


def write_experiment(folder: Path, experiment: dict[str, Any], name: str = "small") -> None:
    """Write ``conf/experiment/NAME.yaml``."""
    path = folder / "conf" / "experiment" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# @package _global_\n" + yaml.safe_dump(experiment, sort_keys=False))


def outcome(run: Path) -> Outcome:
    """What must be the same to the last bit of two runs of one project, however often one of them was stopped."""
    files = [run / "metrics.csv", run / "samples.csv", *run.glob("predictions/*.csv"), *run.glob("bundle/**/*")]
    # What the bundle's manifest says of its config has another run.dir in another folder.
    found = {
        path.relative_to(run).as_posix(): hash_file(path)
        for path in files
        if path.is_file() and path.name not in ("config.yaml", "manifest.json")
    }
    if (run / "result.json").exists():
        result = json.loads((run / "result.json").read_text())
        found["result.json"] = json.dumps({key: value for key, value in result.items() if key != "run_dir"})
    return found


def different(found: Outcome, wanted: Outcome) -> str | None:
    """How two outcomes differ, or nothing."""
    names = [name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)]
    return f"other than without the fault: {', '.join(names)}" if names else None


def lines(text: str) -> Sequence[str]:
    """The lines of an output that say something."""
    return [line for line in text.splitlines() if line.strip()]


def _merged(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {
        key: {**tree[key], **value} if isinstance(value, dict) and isinstance(tree.get(key), dict) else value
        for key, value in changes.items()
    }
