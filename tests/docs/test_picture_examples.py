"""Every example of the guide on pictures is an experiment, or a model of the input above it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from eir_seq.config.validation import validate_experiment
from eir_seq.modalities import build_modality
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.training.run import train
from tests.modalities.test_image import make_rows

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "pictures.md"
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)]
CAPTION = next(example["inputs"]["caption"] for example in EXAMPLES if "caption" in example.get("inputs", {}))


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_is_valid_and_its_model_takes_pictures(example: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n")
    defaults = {
        "data": {"train": str(tmp_path / "train.jsonl")},
        "inputs": {"caption": {**CAPTION, **example}},
        "outputs": {"kind": {"type": "classification", "column": "kind"}},
    }
    config = validate_experiment({**defaults, **example} if "inputs" in example else defaults)
    [(name, declared)] = config.inputs.items()
    if isinstance(declared, SequenceInputConfig):
        assert declared.tensors.pixel_values is not None
        if declared.model.pretrained_model:
            return  # its files are not here
    assert build_modality(name, declared).cells.places.keys() == {"picture"}


@pytest.mark.slow
@pytest.mark.parametrize("example", [x for x in EXAMPLES if "photo" in x.get("inputs", {})], ids=str)
def test_an_example_trains(example: dict[str, Any], tmp_path: Path) -> None:
    model = example["inputs"]["photo"]["model"]
    if "weights" in model or model.get("pretrained_model"):
        pytest.skip("its published weights are not here")
    if "augmentation" in example["inputs"]["photo"]:
        pytest.importorskip("kornia", reason="the extra images is not installed")
    data = {"train": str(make_rows(tmp_path, 12, 0)), "batch_size": 4, "cache_dir": str(tmp_path / "cache")}
    trainer = {"max_steps": 2, "accelerator": "cpu"}
    outputs = {"side": {"type": "classification", "column": "side"}}
    example = {**example, "outputs": outputs, "data": data, "trainer": trainer, "run": {"dir": str(tmp_path / "run")}}
    assert train(validate_experiment(example))["status"] == "finished"
