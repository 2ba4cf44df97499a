"""Pictures by where a patch is, and by how bright it is."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from tests.recipes import CLASS, HEIGHT, scores, write_tables
from tests.recipes.images import make_picture, write_digits

SCAN = {"type": "image", "column": "picture", "size": 16, "mode": "L"}
SMALL = {"model_type": "cnn", "model_init_config": {"channel_exp_base": 3, "output_size": 32}}


def run(folder: Path, model: Any, *, per_class: int, test: int, epochs: int, seed: int = 0) -> dict[str, float]:
    tables = write_tables(folder, "picture", make_picture, per_class=per_class, test=test, seed=seed)
    inputs = {"picture": {**SCAN, "model": model}}
    return scores(tables, inputs, {**CLASS, **HEIGHT}, epochs=epochs, run=folder / "run")


def test_a_small_network_finds_the_patch(tmp_path: Path) -> None:
    """One picture in twelve is black, so that at best about 0.92 can be had."""
    found = run(tmp_path, SMALL, per_class=150, test=100, epochs=6)
    assert found["origin"] > 0.75
    assert found["height"] > 0.7


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        {"model_type": "cnn", "model_init_config": {"layers": [1, 1], "kernel_width": 2, "kernel_height": 2}},
        {"model_type": "resnet", "model_init_config": {"depth": 18, "stem": "small"}},
        {
            "model_type": "vit",
            "model_init_config": {
                "patch_size": 4,
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 128,
            },
        },
    ],
    ids=lambda model: str(model["model_type"]),
)
def test_in_full(model: Any, tmp_path: Path) -> None:
    """Held-out rows, mean of three seeds; at best about 0.92, as one picture in twelve is black."""
    found = []
    for seed in range(3):
        (tmp_path / str(seed)).mkdir()
        found.append(run(tmp_path / str(seed), model, per_class=1000, test=200, epochs=6, seed=seed))
    assert fmean(scored["origin"] for scored in found) > 0.8
    assert fmean(scored["height"] for scored in found) > 0.8


@pytest.mark.slow
def test_handwritten_digits(tmp_path: Path) -> None:
    """A nearest neighbor has an MCC of 0.96 on these rows."""
    tables = write_digits(tmp_path, test=400)
    inputs = {"picture": {"type": "image", "column": "picture", "size": 8, "mode": "L", "model": {"model_type": "cnn"}}}
    outputs = {"digit": {"type": "classification", "column": "digit"}}
    assert scores(tables, inputs, outputs, epochs=8, run=tmp_path / "run")["digit"] > 0.94
