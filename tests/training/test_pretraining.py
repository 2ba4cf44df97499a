"""Whole runs that learn from texts alone, what they leave for fine-tuning, and what they fill in."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest

from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.inference.report import write_report
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.run import train

WORDS = ["aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh"]
BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 16}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "masked_lm": ("bert", BERT),
    "replaced_token_detection": ("electra", {**BERT, "embedding_size": 16}),
    "span_corruption": ("t5", {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}),
    "denoising": (
        "bart",
        {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
        | {"encoder_attention_heads": 2, "decoder_attention_heads": 2},
    ),
}
KINDS = list(MODELS)


def table(path: Path, rows: int, seed: int = 0) -> Path:
    """Texts in which words follow the alphabet, so that a hidden one can be guessed."""
    draw = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for number in range(rows):
            start, length = draw.randrange(8), draw.randrange(5, 12)
            words = [WORDS[(start + i) % 8] for i in range(length)]
            writer.writerow([f"r{seed}-{number}", " ".join(words) + ".", "xy"[start % 2]])
    return path


def raw(folder: Path, kind: str, **changes: Any) -> dict[str, Any]:
    model_type, options = MODELS[kind]
    config: dict[str, Any] = {
        "name": "pretraining",
        "data": {
            "train": str(folder / "train.csv"),
            "test": str(folder / "test.csv"),
            "id": "id",
            "batch_size": 8,
            "validation": 0.1,
            "cache_dir": str(folder / "cache"),
        },
        "inputs": {
            "text": {
                "type": "sequence",
                "column": "text",
                "max_length": 24,
                "model": {"model_type": model_type, "model_init_config": options},
            }
        },
        "outputs": {"text": {"type": kind}},
        "optimizer": {"type": "adamw", "lr": 0.02},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "validate_every": 9},
        "run": {"dir": str(folder / "run")},
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value}
    return config


def experiment(folder: Path, kind: str, **changes: Any) -> ExperimentConfig:
    return validate_experiment(raw(folder, kind, **changes))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", params=KINDS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    table(folder / "train.csv", 160)
    table(folder / "test.csv", 12, seed=1)
    train(experiment(folder, request.param), finish=lambda path: write_report(path))
    return request.param, folder


def test_a_run_learns_and_measures(finished: tuple[str, Path]) -> None:
    kind, folder = finished
    lines = read_metrics(folder / "run" / "metrics.csv")
    found = {(m.metric, m.step): m.value for m in lines if m.split == "validation" and m.output == "text"}
    steps = sorted({step for _, step in found})
    loss = "generator_loss" if kind == "replaced_token_detection" else "loss"  # the better that is, the harder the rest
    assert found[loss, steps[-1]] < found[loss, steps[0]]
    config: Any = experiment(folder, kind).outputs["text"]
    assert {metric for metric, _ in found} == set(config.METRICS)
