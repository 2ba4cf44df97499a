"""Texts that a decoder of an output writes from the states of several inputs, beside other outputs."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest

from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.training.run import train
from tests.training.table import TINY, table_experiment

BART = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 16, "dropout": 0.0,
}  # fmt: skip
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}


def write(path: Path, rows: int, seed: int, lacking: bool = False) -> None:
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "colour", "animal", "said", "mood"])
        for row in range(rows):
            colour, animal = draw.choice(["red", "blue", "green"]), draw.choice(["fox", "owl", "hen"])
            cells = [f"the {colour} one", f"an {animal}", f"{animal} is {colour}", colour]
            if lacking and row % 5 == 0:
                cells[row // 5 % 3] = ""
            writer.writerow([f"{path.stem}{row}", *cells])


def experiment(folder: Path, model: dict[str, Any], lacking: bool = False, **changes: Any) -> Any:
    write(folder / "train.csv", 90, 1, lacking)
    write(folder / "test.csv", 12, 2, lacking)
    wide = {**TINY, "hidden_size": 16, "hidden_dropout_prob": 0.0}
    text = {"type": "sequence", "max_length": 6, "model": {"model_type": "bert", "model_init_config": wide}}
    outputs = {
        "said": {"type": "seq2seq_lm", "column": "said", "max_length": 8, "model": model, "generate_rows": 0},
        "mood": {"type": "classification", "column": "mood"},
    }
    config = table_experiment(folder).model_dump(exclude_none=True, exclude={"inputs", "outputs"})
    config |= {"inputs": {"left": {**text, "column": "colour"}, "right": {**text, "column": "animal"}}}
    config |= {"outputs": outputs, **changes}
    return config


@pytest.mark.slow
def test_a_sentence_from_two_inputs_beside_a_class(tmp_path: Path) -> None:
    config = experiment(tmp_path, {"model_type": "bart", "model_init_config": BART})
    config["scheduler"] = {"type": "constant"}
    config["trainer"] |= {"max_epochs": 22, "validate_every": 198}
    config["optimizer"] |= {"lr": 0.01}
    metrics = train(validate_experiment(config))["test"]
    assert metrics["said"]["exact_match"] > 0.9
    assert metrics["mood"]["accuracy"] > 0.9
    table = predict(tmp_path / "run", test=str(tmp_path / "test.csv"), output=tmp_path / "out.csv")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert sum(row["said"] == row["said_true"] for row in rows) >= 11


def test_rows_may_lack_inputs_and_texts(tmp_path: Path) -> None:
    config = experiment(tmp_path, {"model_type": "t5", "model_init_config": T5}, lacking=True)
    config["data"] |= {"on_missing": "keep"}
    config["trainer"] |= {"max_epochs": 1}
    train(validate_experiment(config))


def test_messages(tmp_path: Path) -> None:
    def said(model: dict[str, Any], **output: Any) -> str:
        config = experiment(tmp_path, model)
        config["outputs"]["said"] |= output
        with pytest.raises(UserError) as caught:
            validate_experiment(config)
        return str(caught.value)

    assert "outputs.said.inputs[0]: 'lef' is no input" in said({"model_type": "t5"}, inputs=["lef"])
    assert "outputs.said.model.model_type: 'bert' has no language-model head" in said({"model_type": "bert"})
    assert "outputs.said.model.model_type: 'barrt' is not in the catalogue" in said({"model_type": "barrt"})
    assert "outputs.said.model.pool: has no effect" in said({"model_type": "t5", "pool": "max"})
    long = said({"model_type": "bart", "model_init_config": BART}, max_length=40)
    assert "outputs.said.max_length: 40 tokens are more than the 16 positions" in long
