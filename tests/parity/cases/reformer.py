"""Rows of reformer: texts of 24 tokens are several chunks long, and as long as its axes in training."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.base import VOCABULARY, Case

REFORMER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "attention_head_size": 8,
    "feed_forward_size": 48,
    "attn_layers": ["local", "lsh"],
    "axial_pos_shape": [4, 6],
    "axial_pos_embds_dim": [8, 24],
    "local_attn_chunk_length": 4,
    "lsh_attn_chunk_length": 6,
    "num_hashes": 2,
    "num_buckets": [2, 4],
    "hash_seed": 0,
    "max_position_embeddings": 24,
    "hidden_dropout_prob": 0.0,
    "local_attention_probs_dropout_prob": 0.0,
}
OTHER: dict[str, Any] = {
    **REFORMER,
    "attn_layers": ["lsh", "local", "lsh"],
    "axial_pos_embds": False,
    "lsh_num_chunks_before": 0,
    "lsh_num_chunks_after": 1,
    "local_num_chunks_after": 1,
    "local_num_chunks_before": 2,
    "num_hashes": 3,
    "num_buckets": None,
    "hidden_act": "gelu",
}

CASES = [
    # weights are those of each chunk; the reference has gradients in training only
    Case("reformer", REFORMER, attends=False, trains=True),
    Case("reformer@other", OTHER, attends=False, trains=True),
    Case("reformer@causal", {**REFORMER, "is_decoder": True, "num_buckets": 6}, attends=False, trains=True),
    Case("reformer@short", {**REFORMER, "lsh_attn_chunk_length": 24}, attends=False, trains=True),
]
