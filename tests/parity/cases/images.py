"""Rows of architectures that read or write images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.parity.cases.base import VOCABULARY, Case, Inputs, segments


def of_image(inputs: Inputs, places: Tensor) -> Inputs:
    return {"labels": torch.tensor([2, 0, 1])}


IMAGEGPT: dict[str, Any] = {
    "vocab_size": VOCABULARY + 1,
    "n_positions": 64,
    "n_embd": 64,  # the oracle rounds the root of the head size down
    "n_layer": 2,
    "n_head": 4,
    "pad_token_id": 0,
    "num_labels": 3,
}
OF_IMAGES: dict[str, Any] = {"targets": {"image-classification": of_image}}

CASES = [
    Case("imagegpt", IMAGEGPT, **OF_IMAGES),
    Case("imagegpt@inverse_idx", {**IMAGEGPT, "scale_attn_by_inverse_layer_idx": True}, segments, **OF_IMAGES),
    Case(
        "imagegpt@tied",
        {**IMAGEGPT, "tie_word_embeddings": True, "reorder_and_upcast_attn": True, "n_inner": 40},
        **OF_IMAGES,
    ),
]
