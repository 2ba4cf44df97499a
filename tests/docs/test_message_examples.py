"""Every example of the guide on messages between layers trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from eir_seq.config.validation import validate_experiment
from eir_seq.training.run import train
from tests.docs.test_grid_examples import files as files
from tests.readme import ROOT, blocks

EXAMPLES = list(blocks(ROOT / "docs/guide/messages.md", "yaml"))


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_an_example_trains(block: Any, files: Path) -> None:
    example = yaml.safe_load(block.text)
    settings = {
        "data": {"train": "rows.csv", "validation": 0.25, "cache_dir": "cache"},
        "trainer": {"max_steps": 1, "accelerator": "cpu"},
        "run": {"dir": str(files / "run")},
    }
    result = train(validate_experiment({**example, **settings}))
    assert result["status"] == "finished"
