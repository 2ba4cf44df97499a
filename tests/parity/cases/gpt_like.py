"""Rows of openai-gpt and ctrl."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tests.parity.cases.base import VOCABULARY, Case, segments

GPT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_positions": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "pad_token_id": 0,
}


def flatten_mask(reference: Any) -> None:
    """The reference reads choices as texts of their own, but leaves their mask as it is."""
    body = reference.base_model
    forward = body.forward

    def flattened(*texts: Tensor, attention_mask: Tensor | None = None, **inputs: Any) -> Any:
        mask = None if attention_mask is None else attention_mask.flatten(0, -2)
        return forward(*texts, attention_mask=mask, **inputs)

    body.forward = flattened


CASES = [
    Case("ctrl", {**GPT, "dff": 48}),
    Case("ctrl@types", {**GPT, "dff": 48, "layer_norm_epsilon": 1e-3, "tie_word_embeddings": False}, segments),
    Case("openai-gpt", GPT, mend=flatten_mask),
    Case("openai-gpt@types", {**GPT, "afn": "relu", "tie_word_embeddings": False}, segments, mend=flatten_mask),
]
