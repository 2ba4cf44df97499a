"""Rows of openai-gpt and ctrl."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.base import VOCABULARY, Case, segments

GPT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_positions": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "pad_token_id": 0,
}

CASES = [
    Case("ctrl", {**GPT, "dff": 48}),
    Case("ctrl@types", {**GPT, "dff": 48, "layer_norm_epsilon": 1e-3, "tie_word_embeddings": False}, segments),
    Case("openai-gpt", GPT),
    Case("openai-gpt@types", {**GPT, "afn": "relu", "tie_word_embeddings": False}, segments),
]
