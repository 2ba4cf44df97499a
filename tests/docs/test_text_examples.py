"""The example of the guide whose texts are written from pictures and tables trains."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from eir_seq.config.validation import validate_experiment
from eir_seq.training.run import train

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "sequence_to_sequence.md"
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)]


@pytest.mark.slow
def test_it_trains(tmp_path: Path) -> None:
    example = next(x for x in EXAMPLES if {"photo", "clinic"} <= x.get("inputs", {}).keys())
    rows = []
    for row in range(12):
        pixels = np.random.default_rng(row).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{row}.png")
        texts = {"caption": f"a dot {row % 3}", "report": f"{'mf'[row % 2]} of {20 + row}"}
        kinds = {"sex": "mf"[row % 2], "age": 20 + row, "admitted": "yn"[row % 2]}
        rows.append({"id": str(row), "photo": f"{row}.png", **texts, **kinds})
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data = {"train": str(tmp_path / "train.jsonl"), "batch_size": 4, "cache_dir": str(tmp_path / "cache")}
    trainer = {"max_steps": 2, "accelerator": "cpu"}
    config = {**example, "data": data, "trainer": trainer, "run": {"dir": str(tmp_path / "run")}}
    assert train(validate_experiment(config))["status"] == "finished"
