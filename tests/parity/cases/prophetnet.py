"""Rows of prophetnet and xlm-prophetnet."""

from __future__ import annotations

from typing import Any

from tests.parity.cases.base import VOCABULARY, Case

PROPHETNET: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "num_encoder_attention_heads": 4,
    "num_decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "num_buckets": 8,
    "relative_max_distance": 20,
}
DEEP: dict[str, Any] = {
    **PROPHETNET,
    "num_encoder_layers": 3,
    "num_decoder_attention_heads": 2,
    "activation_function": "relu",
    "ngram": 3,
    "eps": 0.1,
}
PUBLISHED: dict[str, Any] = {
    "dead": r"embeddings\.streams\.",  # no state of the text depends on the streams that predict it
    "head_mask": False,  # the reference switches heads off only where it returns weights, too: see its own tests
}

CASES = [
    Case("prophetnet", PROPHETNET, **PUBLISHED),
    Case("prophetnet@three_streams", DEEP, **PUBLISHED),
    Case("prophetnet@one_stream", {**DEEP, "ngram": 1}, **PUBLISHED),
    Case("prophetnet@next_only", {**PROPHETNET, "disable_ngram_loss": True}, **PUBLISHED),
    # the reference's option counts the layers of both sides as one number, by which the table makes head masks
    Case("xlm-prophetnet", {**PROPHETNET, "num_decoder_layers": 1}, **PUBLISHED),
    Case("xlm-prophetnet@three_streams", {**DEEP, "pad_token_id": 1, "bos_token_id": 0}, **PUBLISHED),
]
