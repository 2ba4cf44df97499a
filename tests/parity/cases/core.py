"""Rows of bert, roberta, longformer, distilbert, gpt2, t5 and mt5."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.base import (
    DISTILBERT,
    GLOBAL_PROJECTIONS,
    GPT2,
    ROBERTA_IDS,
    T5,
    Case,
    bertish,
    segments,
    some_global,
)

ENCODER_ALONE = {"token-classification": ("decoder_input_ids", "decoder_attention_mask")}

UNTIED: dict[str, Any] = {
    "withheld": ENCODER_ALONE,
    "tolerance": 3e-5,
    "why": "untied logits reach 15, where a step of float32 is 1e-6; the differences are a dozen steps",
}

CASES = [
    Case("bert", bertish(), segments),
    Case("bert@relative_key", bertish(position_embedding_type="relative_key"), segments),
    Case("bert@relative_key_query", bertish(position_embedding_type="relative_key_query"), segments),
    Case("bert@decoder", bertish(is_decoder=True), segments),
    Case("bert@gelu_new", bertish(hidden_act="gelu_new"), segments),
    Case("roberta", bertish(**ROBERTA_IDS)),
    Case("roberta@relative_key_query", bertish(position_embedding_type="relative_key_query", **ROBERTA_IDS)),
    Case("longformer", bertish(attention_window=8, **ROBERTA_IDS), some_global),
    Case("longformer@windows", bertish(attention_window=[4, 14], **ROBERTA_IDS), some_global),
    Case("longformer@no_global", bertish(attention_window=6, **ROBERTA_IDS), dead=GLOBAL_PROJECTIONS),
    Case("distilbert", DISTILBERT),
    Case("distilbert@sinusoidal", {**DISTILBERT, "sinusoidal_pos_embds": True}),
    Case("gpt2", GPT2),
    Case("gpt2@inner_and_relu", {**GPT2, "n_inner": 40, "activation_function": "relu"}),
    Case("gpt2@unscaled", {**GPT2, "scale_attn_weights": False}),
    Case("gpt2@scaled_by_layer", {**GPT2, "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}),
    Case("t5", T5, withheld=ENCODER_ALONE),
    Case("t5@gated", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, **UNTIED),
    Case("mt5", T5, **UNTIED),
    Case("mt5@tied", {**T5, "feed_forward_proj": "silu", "tie_word_embeddings": True}, withheld=ENCODER_ALONE),
]
