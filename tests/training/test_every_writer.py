"""Every architecture that writes texts from texts, by way of YAML: trained, measured, asked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from eir_seq.inference.predict import predict
from eir_seq.models.catalogue import CATALOGUE
from eir_seq.training.run import train
from tests.models.tiny import OPTIONS
from tests.sampled import sampled
from tests.training.test_seq2seq import experiment, read, table

WRITERS = [name for name, entry in CATALOGUE.items() if "seq2seq-lm" in entry.tasks]
OWN = {name: {"published_bias_order": False} for name in ("prophetnet", "xlm-prophetnet")}
SHARE_ROOM = ("nllb-moe", "switch_transformers")
"""Texts of a batch fill up the same experts, as published: beside others a text may become another one."""
OUTPUT = {"type": "seq2seq_lm", "column": "high", "max_length": 12, "generate_rows": 2}


pytestmark = pytest.mark.usefixtures("one_thread")


def sizes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Without what follows from the tokenizer."""
    own = {key: x for key, x in options.items() if not key.endswith("token_id") and key != "vocab_size"}
    return {key: sizes(x) if isinstance(x, Mapping) else x for key, x in own.items()}


@pytest.mark.parametrize(
    "model_type", sampled(WRITERS, 1 / 3, always=lambda name: name in ("bart", "led", "nllb-moe", "prophetnet", "t5"))
)
def test_from_yaml_to_texts(tmp_path: Path, model_type: str) -> None:
    table(tmp_path / "train.csv", 16)
    table(tmp_path / "test.csv", 2, seed=1)
    model = {"model_type": model_type, "model_init_config": sizes(OPTIONS[model_type]) | OWN.get(model_type, {})}
    tokenizer = {"type": "word"}
    source = {"type": "sequence", "column": "low", "max_length": 12, "tokenizer": tokenizer, "model": model}
    written = {"capitals": {**OUTPUT, "generation": {"min_new_tokens": 3, "max_new_tokens": 5}}}
    trainer = {"max_steps": 2, "validate_every": None, "monitor": {"output": "capitals", "metric": "loss"}}
    train(experiment(tmp_path, inputs={"source": source}, outputs=written, trainer=trainer))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert all(0 < result[split]["capitals"]["loss"] < math.inf for split in ("validation", "test"))
    true = read(tmp_path / "test.csv")
    rows = read(tmp_path / "run" / "predictions" / "test.csv")
    assert [row["capitals_true"] for row in rows] == [row["high"] for row in true]
    assert read(predict(tmp_path / "run", test=str(tmp_path / "test.csv"), output=tmp_path / "again.csv")) == rows
    for row, given in zip(rows, true, strict=True):
        (asked,) = read(predict(tmp_path / "run", prompt=given["low"], output=tmp_path / "asked.csv"))
        if model_type in SHARE_ROOM:
            continue
        assert asked["capitals"] == row["capitals"]
        assert float(asked["capitals_score"]) == pytest.approx(float(row["capitals_score"]), abs=1e-3)
