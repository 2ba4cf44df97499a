"""Rows of gpt_neox, gpt_neox_japanese, gptj, codegen and gpt_bigcode."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.base import GPT2, VOCABULARY, Case, bertish, segments

NEOX = bertish(rotary_pct=0.5, pad_token_id=0, bos_token_id=1, eos_token_id=2)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
JAPANESE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_multiple_size": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPTJ = {**GPT2, "rotary_dim": 4}

CASES = [
    Case("gpt_neox", NEOX, head_mask=False),  # the oracle multiplies by a mask that is made for adding
    Case(
        "gpt_neox@one_behind_the_other",
        {**NEOX, "use_parallel_residual": False, "attention_bias": False, "tie_word_embeddings": True},
    ),
    Case("gpt_neox@yarn", {**NEOX, "rotary_pct": 1.0, "rotary_emb_base": 500, "rope_scaling": YARN}),
    Case("gpt_neox_japanese", JAPANESE),
    Case(
        "gpt_neox_japanese@part",
        {
            **JAPANESE,
            "rotary_pct": 0.25,
            "rotary_emb_base": 100,
            "intermediate_multiple_size": 1,
            "tie_word_embeddings": False,
            "hidden_act": "relu",
            "rope_scaling": {"type": "linear", "factor": 2.0},
        },
    ),
    Case("gptj", GPTJ),
    Case("gptj@whole_heads", {**GPTJ, "rotary_dim": 8, "n_inner": 48, "tie_word_embeddings": True}, segments),
    Case("codegen", GPTJ),
    Case(
        "codegen@two_heads_of_each",
        {**GPTJ, "n_embd": 64, "n_head": 8, "n_inner": 48, "activation_function": "relu"},
        segments,
    ),
    Case("gpt_bigcode", GPT2),
    Case("gpt_bigcode@all_heads", {**GPT2, "multi_query": False, "n_inner": 48, "scale_attn_weights": False}, segments),
]
