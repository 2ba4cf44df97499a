"""Rows of decoders like llama with norms that centre."""

from __future__ import annotations

from tests.parity.cases.base import Case
from tests.parity.cases.llama_like import YARN, llamaish

HALF = {"partial_rotary_factor": 0.5}
PERSIMMON = {name: value for name, value in llamaish(**HALF).items() if name != "num_key_value_heads"}

CASES = [
    Case("cohere", llamaish(logit_scale=0.0625), head_mask=False),
    Case("cohere@qk_norm", llamaish(use_qk_norm=True, logit_scale=0.25)),
    Case("cohere@biases", llamaish(attention_bias=True, num_key_value_heads=4, tie_word_embeddings=False)),
    Case("cohere@yarn", llamaish(rope_scaling=YARN)),
    Case("persimmon", PERSIMMON, head_mask=False),
    Case("persimmon@no_qk_norm", {**PERSIMMON, "qk_layernorm": False, "hidden_act": "gelu"}),
    Case("phi", llamaish(**HALF), head_mask=False),
    Case("phi@qk_layernorm", llamaish(**HALF, qk_layernorm=True, tie_word_embeddings=True)),
    Case("phi@linear", llamaish(**HALF, rope_scaling={"type": "linear", "factor": 2.0}, num_key_value_heads=None)),
    Case("stablelm", llamaish(**HALF), head_mask=False),
    Case("stablelm@parallel_qk_norm", llamaish(**HALF, use_parallel_residual=True, qk_layernorm=True)),
    Case("stablelm@qkv_bias", llamaish(use_qkv_bias=True, partial_rotary_factor=1.0, num_key_value_heads=1)),
    Case("starcoder2", llamaish(sliding_window=8), head_mask=False),
    Case("starcoder2@whole_text", llamaish(use_bias=False, tie_word_embeddings=False, norm_epsilon=1e-3)),
]
