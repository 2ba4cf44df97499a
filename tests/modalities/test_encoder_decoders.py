"""Encoder-decoders as backbones of an input: their encoders read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.models import create_model
from eir_seq.models.backbones.stack import Stack
from tests.modalities.test_sequence_encoder import DATA, encode, fit

TINY: dict[str, Any] = {
    "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "max_position_embeddings": 32,
}  # fmt: skip
NAMES = ("bart", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp", "pegasus", "plbart")


@pytest.mark.parametrize("name", NAMES)
def test_from_scratch(name: str) -> None:
    fitted = fit({"model_type": name, "model_init_config": TINY})
    encoder = fitted.build_encoder(DATA).eval()
    assert isinstance(encoder.backbone.body, Stack)
    assert encoder.backbone.task == "encoder"
    assert encode(fitted, encoder).shape == (3, 8)


def test_of_a_whole_file(tmp_path: Path) -> None:
    """The encoder's tensors are taken from the file, frozen if wanted."""
    tokenizer = fit({}).tokenizer
    whole: Any = create_model("bart", {**TINY, "vocab_size": tokenizer.vocab_size}, task="seq2seq-lm")
    whole.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    model = {"model_type": str(tmp_path), "pretrained_model": True, "freeze_pretrained_model": True}
    fitted = fit({**model, "model_init_config": {}})
    encoder = fitted.build_encoder(DATA)
    assert encoder.backbone.task == "encoder"
    own, theirs = dict(encoder.backbone.body.named_parameters()), dict(whole.body.encoder.named_parameters())
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[name], theirs[name]) for name in own)
    assert not any(p.requires_grad for p in own.values())


def test_prompts_in_front_of_a_frozen_bart(tmp_path: Path) -> None:
    """A bart is opened as mvp; `freeze` names all but the prompts."""
    tokenizer = fit({}).tokenizer
    create_model("bart", {**TINY, "vocab_size": tokenizer.vocab_size}, task="seq2seq-lm").save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    options = {"model_type": "mvp", "use_prompt": True, "prompt_length": 3, "prompt_mid_dim": 4}
    freeze = ["layers.*", "embed_*", "layernorm_embedding.*"]
    model = {"model_type": str(tmp_path), "pretrained_model": True, "model_init_config": options, "freeze": freeze}
    encoder = fit(model).build_encoder(DATA)
    assert (encoder.backbone.config.model_type, encoder.backbone.task) == ("mvp", "encoder")
    trained = {name for name, p in encoder.backbone.named_parameters() if p.requires_grad}
    assert len(trained) == 5
    assert all("prompts" in name for name in trained)
