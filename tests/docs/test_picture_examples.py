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
