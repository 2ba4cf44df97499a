"""Rows of gpt_neox, gpt_neox_japanese, gptj, codegen, gpt_bigcode and falcon."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.base import GPT2, VOCABULARY, Case, bertish, segments


def alibi_once(reference: Any) -> None:
    """The reference's spelt-out attention adds the bias twice, as part of the mask too; its kernels add it once."""
    body = reference.base_model
    mask = body._update_causal_mask
    body._update_causal_mask = lambda *inputs: mask(*inputs[:-1], None)


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
FALCON = bertish(pad_token_id=0, bos_token_id=1, eos_token_id=2)
FALCON.pop("intermediate_size")
GROUPS = {"new_decoder_architecture": True, "num_kv_heads": 2}
GPTJ = {**GPT2, "rotary_dim": 4}

CASES = [
    Case("gpt_neox", NEOX, head_mask=False),  # the reference multiplies by a mask that is made for adding
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
    Case("falcon", FALCON, head_mask=False),  # the reference reads a head mask with alibi only
    Case("falcon@groups", {**FALCON, **GROUPS, "ffn_hidden_size": 48}),
    Case("falcon@groups_one_norm", {**FALCON, **GROUPS, "num_ln_in_parallel_attn": 1, "tie_word_embeddings": False}),
    Case("falcon@one_behind_the_other", {**FALCON, "parallel_attn": False, "bias": True, "multi_query": False}),
    Case(
        "falcon@alibi",
        {**FALCON, "alibi": True, "multi_query": False, "num_attention_heads": 6, "hidden_size": 30, "bias": True},
        mend=alibi_once,
    ),
    Case("falcon@alibi_groups", {**FALCON, **GROUPS, "alibi": True, "activation": "relu"}, mend=alibi_once),
    Case("falcon@yarn", {**FALCON, "rope_theta": 500.0, "rope_scaling": YARN}),
]
