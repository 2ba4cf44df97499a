"""Rows of bart and its kin."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.base import VOCABULARY, Case

BART: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
}

CASES = [
    Case("bart", BART),
    Case(
        "bart@scaled",
        {**BART, "scale_embedding": True, "activation_function": "relu", "encoder_layers": 3, "decoder_ffn_dim": 40},
    ),
]
