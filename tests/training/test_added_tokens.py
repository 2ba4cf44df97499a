"""A tokenizer with tokens that the published model has no rows for: grown on request, in all that a run leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.models import create_model, from_pretrained
from eir_seq.tokenizers import train_tokenizer
from eir_seq.training.bundle import read_bundle
from eir_seq.training.run import train
from tests.training.test_pretraining import BERT, WORDS, experiment, table

MISSING = 2


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bert whose table ends before the last tokens."""
    folder = tmp_path_factory.mktemp("published")
    tokenizer = train_tokenizer("word", [*WORDS, "."])
    torch.manual_seed(3)
    sizes = {"vocab_size": tokenizer.vocab_size - MISSING}
    options = {**BERT, **sizes, "pad_token_id": tokenizer.pad_id, "initializer_range": 0.5}
    create_model("bert", options, task="masked-lm").save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def run_of(folder: Path, published: Path, **model: Any) -> Any:
    table(folder / "train.csv", 40)
    table(folder / "test.csv", 6, seed=1)
    backbone = {"model_type": str(published), "pretrained_model": True, **model}
    source = {"type": "sequence", "column": "text", "max_length": 24, "model": backbone}
    trainer = {"max_epochs": 1, "validate_every": None}
    return experiment(folder, "masked_lm", inputs={"text": source}, trainer=trainer)


def test_refused_with_the_key_that_helps(tmp_path: Path, published: Path) -> None:
    with pytest.raises(UserError) as caught:
        train(run_of(tmp_path, published))
    rows = json.loads((published / "config.json").read_text())["vocab_size"]
    assert str(caught.value) == (
        f"inputs.text.tokenizer: there are {rows + MISSING} tokens, the model has embeddings for {rows}; "
        "model.resize_token_embeddings: true gives it fresh ones for the others"
    )
    with pytest.raises(UserError, match=r"resize_token_embeddings: .*without pretrained_model: true"):
        run_of(tmp_path, Path("bert"), pretrained_model=False, resize_token_embeddings=True)


@pytest.mark.parametrize("lora", [None, {"rank": 2}], ids=["whole", "lora"])
def test_a_run_with_fresh_rows(tmp_path: Path, published: Path, lora: dict[str, Any] | None) -> None:
    """They are trained, also beside adapters; the folder for fine-tuning and the bundle have the new size."""
    train(run_of(tmp_path, published, resize_token_embeddings=True, lora=lora))
    before, kept = from_pretrained(published), tmp_path / "run" / "pretrained" / "text"
    after, network = from_pretrained(kept), read_bundle(tmp_path / "run" / "bundle").network
    size = before.config.vocab_size + MISSING
    backbone: Any = network.encoder("text").backbone
    for model in (after, backbone):
        assert model.config.vocab_size == model.get_input_embeddings().num_embeddings == size
        assert model.head.bias.shape == (size,)
    assert json.loads((kept / "config.json").read_text())["vocab_size"] == size
    assert after.load_report.initialised == ()
    assert torch.equal(after.get_input_embeddings().weight, backbone.get_input_embeddings().weight)
    old, new = before.get_input_embeddings().weight, after.get_input_embeddings().weight
    assert torch.corrcoef(torch.stack((old.flatten(), new[:-MISSING].flatten())))[0, 1] > 0.5
    assert not torch.equal(old, new[:-MISSING])
    assert predict(tmp_path / "run", test=str(tmp_path / "test.csv"), output=tmp_path / "found.csv").is_file()
