"""Every example of the guide on tensors is an input that can be built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from eir_seq.config.tensors import TensorsConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.modalities import build_modality
from tests.modalities.tensor_tables import write_sign_files

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "tensors.md"
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_is_valid_and_its_model_takes_its_tensors(example: dict[str, Any], tmp_path: Path) -> None:
    write_sign_files(tmp_path)
    (tmp_path / "train.jsonl").write_text("{}\n")
    [declared] = example["inputs"].values()
    if "tokenizer" in declared:
        declared["tokenizer"]["path"] = str(tmp_path / "tokenizer")
    outputs = {"kind": {"type": "classification", "column": "kind"}}
    data = {"train": str(tmp_path / "train.jsonl")}
    config = validate_experiment({**example, "data": data, "outputs": outputs})
    [(name, checked)] = config.inputs.items()
    assert set(build_modality(name, checked).cells.sources) == set(declared["tensors"])


def test_every_entry_has_an_example() -> None:
    shown = {kind for example in EXAMPLES for declared in example["inputs"].values() for kind in declared["tensors"]}
    assert shown == TensorsConfig.model_fields.keys() - {"pixel_values"}  # of which another page speaks
