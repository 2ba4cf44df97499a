"""Rows of bloom and mpt."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.base import VOCABULARY, Case

BLOOM: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 3}
MPT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "n_heads": 4,
    "n_layers": 2,
    "max_seq_len": 64,
    "pad_token_id": 0,
}

CASES = [
    Case("bloom", BLOOM),
    Case("bloom@six_heads", {**BLOOM, "hidden_size": 48, "n_head": 6, "tie_word_embeddings": False}),
    Case("bloom@normed_residual", {**BLOOM, "apply_residual_connection_post_layernorm": True}),
    Case("mpt", MPT, head_mask=False),
    Case("mpt@six_heads", {**MPT, "d_model": 48, "n_heads": 6, "expansion_ratio": 2, "tie_word_embeddings": False}),
    Case("mpt@clip", {**MPT, "attn_config": {"clip_qkv": 0.5, "softmax_scale": 0.3, "alibi_bias_max": 4}}),
]
