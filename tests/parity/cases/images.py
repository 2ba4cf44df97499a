"""Rows of architectures that read or write images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.parity.cases.base import VOCABULARY, Case, Inputs, bertish, segments

SIDE, PATCH, FRAMES = 16, 8, 2
IMAGE_TOKENS = (SIDE // PATCH) ** 2 + 1


def pixels(ids: Tensor, generator: torch.Generator) -> Inputs:
    return {"pixel_values": torch.randn(len(ids), 3, SIDE, SIDE, generator=generator)}


def frames(ids: Tensor, generator: torch.Generator) -> Inputs:
    return {"pixel_values": torch.randn(len(ids), FRAMES, 3, SIDE, SIDE, generator=generator)}


def larger(ids: Tensor, generator: torch.Generator) -> Inputs:
    """Images of the same number of patches, with other sides."""
    pixels = torch.randn(len(ids), 3, SIDE // 2, SIDE * 2, generator=generator)
    return {"pixel_values": pixels, "interpolate_pos_encoding": True}


def uncached_pixels(ids: Tensor, generator: torch.Generator) -> Inputs:
    """With a cache, even an empty one, the reference takes the distances of the last token for those of all."""
    return {**pixels(ids, generator), "use_cache": False}


def shift_once(reference: Any) -> None:
    """The reference hands shifted labels to a loss that shifts them again."""

    def loss(logits: Tensor, labels: Tensor, **_: Any) -> Tensor:
        return F.cross_entropy(logits, labels)

    reference.loss_function = loss


def prefix_tokens(inputs: Inputs) -> int:
    """Tokens that stand in front of the text."""
    images = inputs.get("pixel_values")
    return 0 if images is None else IMAGE_TOKENS * (images.shape[1] if images.dim() == 5 else 1)


def of_caption(inputs: Inputs, places: Tensor) -> Inputs:
    real = inputs["attention_mask"].bool()
    labels = torch.randint(0, 100, real.shape, generator=torch.Generator().manual_seed(5))
    return {"labels": labels.masked_fill(~real, -100)}


def of_image(inputs: Inputs, places: Tensor) -> Inputs:
    return {"labels": torch.tensor([2, 0, 1])}


IMAGEGPT: dict[str, Any] = {
    "vocab_size": VOCABULARY + 1,
    "n_positions": 64,
    "n_embd": 64,  # the reference rounds the root of the head size down
    "n_layer": 2,
    "n_head": 4,
    "pad_token_id": 0,
    "num_labels": 3,
}
OF_IMAGES: dict[str, Any] = {"targets": {"image-classification": of_image}}

VISION = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": PATCH,
}
GIT = bertish(vision_config=VISION, bos_token_id=1, eos_token_id=2)
CAPTIONS: dict[str, Any] = {"targets": {"causal-lm": of_caption}, "mend": shift_once}

CASES = [
    Case("git", GIT, pixels, **CAPTIONS),
    Case("git@video", {**GIT, "num_image_with_embedding": FRAMES}, frames, **CAPTIONS),
    Case("git@interpolated", {**GIT, "tie_word_embeddings": True}, larger, **CAPTIONS),
    *(
        Case(f"git@{kind}", {**GIT, "position_embedding_type": kind}, uncached_pixels, **CAPTIONS)
        for kind in ("relative_key", "relative_key_query")
    ),
    Case("imagegpt", IMAGEGPT, **OF_IMAGES),
    Case("imagegpt@inverse_idx", {**IMAGEGPT, "scale_attn_by_inverse_layer_idx": True}, segments, **OF_IMAGES),
    Case(
        "imagegpt@tied",
        {**IMAGEGPT, "tie_word_embeddings": True, "reorder_and_upcast_attn": True, "n_inner": 40},
        **OF_IMAGES,
    ),
]
