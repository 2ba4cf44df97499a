"""Rows of bart and architectures derived from it."""

from __future__ import annotations

from typing import Any

import torch

from eir_seq.models.layers.positions.absolute import SinesThenCosines
from tests.parity.cases.base import VOCABULARY, Case

BART: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
}
OTHER: dict[str, Any] = {"activation_function": "relu", "encoder_layers": 3, "decoder_ffn_dim": 40}
SCALED: dict[str, Any] = {**BART, **OTHER, "scale_embedding": True}
NLLB: dict[str, Any] = {
    **BART,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_sparse_step": 2,
    "decoder_sparse_step": 2,
    "num_experts": 4,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
}
MARIAN: dict[str, Any] = {
    **BART,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
}


@torch.no_grad()
def true_waves(model: Any) -> None:
    """The reference writes no table of sinusoids to files, so it must not be a noisy one."""
    for name, table in model.named_parameters():
        if "embed_positions" in name:
            table.copy_(SinesThenCosines.sinusoids(torch.arange(len(table)), table.shape[1]))


CASES = [
    Case("bart", BART),
    Case("bart@scaled", SCALED),
    # of its own files of this kind, the reference opens only one of the names of the token table
    Case("bart@untied", {**BART, "tie_word_embeddings": False, "encoder_attention_heads": 2}, reopens=False),
    Case("blenderbot@untied", {**BART, "tie_word_embeddings": False}),
    Case("blenderbot", BART),
    Case("blenderbot@scaled", SCALED),
    Case("blenderbot-small", BART),
    Case("blenderbot-small@scaled", SCALED),
    Case("m2m_100", {**BART, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}),
    Case("m2m_100@unscaled", {**BART, **OTHER, "scale_embedding": False, "activation_function": "gelu"}),
    Case("marian", MARIAN, mend=true_waves),
    Case("marian@two_tables", {**MARIAN, **SCALED, "share_encoder_decoder_embeddings": False}, mend=true_waves),
    Case("marian@untied", {**MARIAN, "tie_word_embeddings": False}, mend=true_waves),
    Case("mbart", BART),
    Case("mbart@scaled", SCALED),
    Case("mvp", BART),
    Case("mvp@prompts", {**SCALED, "use_prompt": True, "prompt_length": 5, "prompt_mid_dim": 20}),
    Case("nllb-moe", NLLB),
    Case("nllb-moe@unscaled", {**NLLB, "scale_embedding": False, "router_bias": True, "activation_function": "gelu"}),
    Case("pegasus", BART),
    Case("pegasus@scaled", SCALED),
    Case("plbart", BART),
    Case("plbart@unscaled", {**BART, **OTHER, "scale_embedding": False}),
]
