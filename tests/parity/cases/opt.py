"""Rows of opt, biogpt and xglm."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.base import ROBERTA_IDS, VOCABULARY, Case, bertish

OPT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "ffn_dim": 48,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 32,
}
XGLM: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "d_model": 32,
    "ffn_dim": 48,
    "num_layers": 2,
    "attention_heads": 4,
    **ROBERTA_IDS,
}

CASES = [
    Case("biogpt", bertish(**ROBERTA_IDS)),
    Case("biogpt@unscaled", bertish(scale_embedding=False, hidden_act="relu", tie_word_embeddings=False)),
    # the reference takes a head mask here, and leaves it unread
    Case("opt", OPT, head_mask=False),
    Case("opt@narrow", {**OPT, "word_embed_proj_dim": 16}, head_mask=False),
    Case("opt@norms_behind", {**OPT, "do_layer_norm_before": False, "enable_bias": False}, head_mask=False),
    Case("opt@narrow_norms_behind", {**OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 16}, head_mask=False),
    Case("opt@no_last_norm", {**OPT, "_remove_final_layer_norm": True, "activation_function": "gelu"}, head_mask=False),
    Case("xglm", XGLM),
    Case("xglm@blank_position", {**XGLM, "pad_token_id": 5, "scale_embedding": False, "activation_function": "relu"}),
]
