"""Trains on several processes, stops some of them and starts them again: ``python -m tests.training.ranks_driver
FOLDER SCENARIO...``, JSON out.

As `tests.training.kill_driver` it imports Lightning once and forks; the processes find each other as those of torchrun.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from eir_seq.config.validation import validate_experiment
from eir_seq.inference.report import write_report  # noqa: F401  # what the command imports is imported before the fork
from eir_seq.training import loop
from eir_seq.training.run import train
from tests.training.table import TINY

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MODEL = {"model_type": "bert", "pool": "avg", "model_init_config": {**TINY, **NO_DROPOUT}}
HEAD = {"type": "mlp-residual", "hidden_size": 8, "num_layers": 1, "dropout": 0.0, "stochastic_depth": 0.0}


def write(path: Path, rows: int, seed: int) -> None:
    """Two texts of similar words, a mood, a number that every fifth row lacks, a time and an event."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "a", "b", "mood", "score", "days", "died"])
        for row in range(rows):
            words = [draw.choice(["bright", "warm", "grey", "cold", "day", "and"]) for _ in range(draw.randint(3, 11))]
            other = [word.upper() for word in reversed(words)]
            mood = "good" if words.count("bright") + words.count("warm") > len(words) / 3 else "bad"
            score = "" if row % 5 == 0 else f"{len(words) / 10 + draw.random() / 5:.3f}"
            cells = [" ".join(words), " ".join(other), mood, score, f"{draw.uniform(1, 9):.2f}", row % 3 > 0]
            writer.writerow([f"{path.stem}{row}", *cells[:-1], int(cells[-1])])


def experiment(
    folder: Path, outputs: dict[str, Any], broker: Sequence[Any] = (), adversaries: Sequence[Any] = (), **trainer: Any
) -> Any:
    """An experiment on both texts; a batch of each epoch has one row."""
    fusion = {"type": "concat"}
    return validate_experiment(
        {
            "name": "shared",
            "data": {"source": "table", "id": "id", "batch_size": 8, "cache_dir": str(folder.parent / "cache")}
            | {split: str(folder.parent / f"{split}.csv") for split in ("train", "validation", "test")}
            | {"on_missing": "keep"},
            "inputs": {
                name: {"type": "sequence", "column": name, "max_length": 12, "model": MODEL} for name in ("a", "b")
            },
            "fusion": fusion,
            "broker": list(broker),
            "adversaries": list(adversaries),
            "outputs": outputs,
            "optimizer": {"type": "adamw", "lr": 0.003},
            "trainer": {"max_epochs": 2, "accelerator": "cpu", "validate_every": 4, **trainer},
            "run": {"dir": str(folder)},
        }
    )


PREDICTIVE: dict[str, Any] = {
    "mood": {"type": "classification", "column": "mood"},
    "score": {"type": "regression", "column": "score"},
}
COMPARING: dict[str, Any] = {
    "risk": {"type": "survival", "model": "cox", "time": "days", "event": "died"},
    "same": {"type": "similarity", "inputs": ["a", "b"], "loss": "contrastive", "learn_temperature": True},
}


def start(
    folder: Path, processes: int, outputs: dict[str, Any], stop: dict[int, tuple[int, int]], **trainer: Any
) -> Any:
    """Train in a folder on that many processes; `stop`: by rank a step and the signal that it gets then."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    children = []
    for rank in range(processes):
        if child := os.fork():
            children.append(child)
            continue
        code = 1
        try:
            torch.set_num_threads(1)
            os.dup2(os.open(folder.parent / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
            if processes > 1:
                names = {"RANK": rank, "WORLD_SIZE": processes, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": processes}
                os.environ.update({name: str(value) for name, value in names.items()})
                os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            if rank in stop:
                _stop_at(*stop[rank])
            train(experiment(folder, outputs, devices=processes, **trainer))
            code = 0
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        finally:
            sys.stdout.flush()
            os._exit(code)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _stop_at(step: int, number: int) -> None:
    settle = loop.RunLoop._settle

    def stopping(self: Any, trainer: Any) -> None:
        if self.state.step == step:
            os.kill(os.getpid(), number)
        settle(self, trainer)

    loop.RunLoop._settle = stopping  # type: ignore[method-assign]


def outcome(folder: Path) -> dict[str, Any]:
    """Metrics by place, weights, and a hash of both and of the predictions."""
    with (folder / "metrics.csv").open(newline="") as file:
        metrics = {
            "/".join((r["step"], r["split"], r["output"], r["metric"])): float(r["value"]) for r in csv.DictReader(file)
        }
    weights = load_file(folder / "bundle" / "model.safetensors")
    digest = hashlib.sha256((folder / "metrics.csv").read_bytes())
    for name in ("validation", "test"):
        digest.update((folder / "predictions" / f"{name}.csv").read_bytes())
    for name, value in sorted(weights.items()):
        digest.update(name.encode() + value.numpy().tobytes())
    flat = torch.cat([value.flatten().double() for _, value in sorted(weights.items())])
    return {"metrics": metrics, "weights": flat.tolist(), "digest": digest.hexdigest()}


MANIFOLD: dict[str, Any] = {
    "type": "manifold",
    "alpha": 1.0,
    "layers": ["inputs.a", "fusion", ["inputs.a", "inputs.b"]],
}
CONNECTED: dict[str, Any] = {
    "broker": [
        {"from": "inputs.a.layers.0", "to": "inputs.b.layers.0", "fusion": "additive"},
        {"from": "inputs.a", "to": "outputs.mood"},
    ],
    "adversaries": [{"from": "inputs.b", "predict": "inputs.a", "weight": 0.1, "hidden_size": 8}],
    "averaging": {"type": "ema", "decay": 0.8},
    "gradient_noise": 0.01,
}
"""Messages, an adversary, averaged weights and noise."""
Starts = tuple[tuple[int, dict[int, tuple[int, int]]], ...]
SCENARIOS: dict[str, tuple[Starts, dict[str, Any], dict[str, Any]]] = {
    "one process": (((1, {}),), PREDICTIVE, {}),
    "two processes": (((2, {}),), PREDICTIVE, {}),
    "three processes": (((3, {}),), PREDICTIVE, {}),
    "fsdp": (((2, {}),), PREDICTIVE, {"strategy": "fsdp"}),
    "comparing, one process": (((1, {}),), COMPARING, {}),
    "comparing, two processes": (((2, {}),), COMPARING, {}),
    "accumulated, one process": (((1, {}),), PREDICTIVE, {"accumulate": 2, "train_metrics": True}),
    "accumulated, two processes": (((2, {}),), PREDICTIVE, {"accumulate": 2, "train_metrics": True}),
    "mixed, one process": (((1, {}),), PREDICTIVE, {"mixing": {"alpha": 1.0}}),
    "mixed, two processes": (((2, {}),), PREDICTIVE, {"mixing": {"alpha": 1.0}}),
    "manifold, one process": (((1, {}),), PREDICTIVE, {"mixing": MANIFOLD}),
    "manifold, three processes": (((3, {}),), PREDICTIVE, {"mixing": MANIFOLD}),
    "mixed, fsdp": (((2, {}),), PREDICTIVE, {"mixing": {"alpha": 1.0}, "strategy": "fsdp"}),
    "manifold, fsdp": (((2, {}),), PREDICTIVE, {"mixing": MANIFOLD, "strategy": "fsdp"}),
    "connected, one process": (((1, {}),), PREDICTIVE, CONNECTED),
    "connected, fsdp, two, one, two": (
        ((2, {0: (3, signal.SIGTERM)}), (1, {0: (7, signal.SIGTERM)}), (2, {})),
        PREDICTIVE, {**CONNECTED, "strategy": "fsdp"},
    ),
    "rank 1 killed": (((2, {1: (6, signal.SIGKILL)}), (2, {})), PREDICTIVE, {}),
    "fsdp, rank 0 killed": (((2, {0: (6, signal.SIGKILL)}), (2, {})), PREDICTIVE, {"strategy": "fsdp"}),
    "accumulated, rank 1 terminated": (
        ((2, {1: (6, signal.SIGTERM)}), (2, {})), PREDICTIVE, {"accumulate": 2, "train_metrics": True},
    ),
    "two, one, two": (((2, {0: (3, signal.SIGTERM)}), (1, {0: (7, signal.SIGTERM)}), (2, {})), PREDICTIVE, {}),
}  # fmt: skip
"""By name the starts (processes, and who is stopped when), outputs, and options of the trainer."""


def main(folder: Path, names: list[str]) -> dict[str, Any]:
    """Every scenario's outcome by its name."""
    for name, rows in (("train", 41), ("validation", 13), ("test", 11)):
        write(folder / f"{name}.csv", rows, rows)
    for outputs in (PREDICTIVE, COMPARING):
        experiment(folder / "unused", outputs)  # pydantic builds the models of a config when it needs them
    found: dict[str, Any] = {}
    for name in names:
        starts, outputs, trainer = SCENARIOS[name]
        codes = [start(folder / name, processes, outputs, stop, **trainer) for processes, stop in starts]
        found[name] = {"codes": codes, **outcome(folder / name)}
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2:]), indent=1))
