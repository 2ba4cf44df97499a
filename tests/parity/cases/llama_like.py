"""Rows of decoders like llama."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.base import Case, bertish


def llamaish(**more: Any) -> dict[str, Any]:
    return bertish(**{"num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **more})


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
WINDOW = {"use_sliding_window": True, "sliding_window": 8}

CASES = [
    Case("llama", llamaish(), head_mask=False),
    Case(
        "llama@linear_and_biases",
        llamaish(rope_scaling={"rope_type": "linear", "factor": 2.0}, attention_bias=True, mlp_bias=True, head_dim=16),
    ),
    Case("llama@llama3", llamaish(rope_scaling=LLAMA3)),
    Case("llama@one_group", llamaish(num_key_value_heads=1, pretraining_tp=2, tie_word_embeddings=True)),
    Case("llama@yarn", llamaish(rope_scaling=YARN)),
    Case("gemma", llamaish(head_dim=16), head_mask=False),
    Case("gemma@biases", llamaish(head_dim=6, attention_bias=True, num_key_value_heads=4)),
    Case("qwen2", llamaish(**WINDOW, max_window_layers=1), head_mask=False),
    Case("qwen2@whole_text", llamaish(sliding_window=8, max_window_layers=0, tie_word_embeddings=True)),
    Case("qwen2@layer_types", llamaish(**WINDOW, layer_types=["sliding_attention", "full_attention"])),
    Case("qwen2@yarn", llamaish(rope_scaling={**YARN, "beta_fast": 2.0, "beta_slow": 0.5, "truncate": False})),
    Case("mixtral", llamaish(num_local_experts=4, sliding_window=8), head_mask=False),
    Case("mixtral@one_expert", llamaish(num_local_experts=3, num_experts_per_tok=1, head_dim=16)),
]
