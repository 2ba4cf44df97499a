"""Options of imagegpt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.gpt2.options import LikeGPT2
from eir_seq.models.options import ACTIVATIONS, layers, option, size


@dataclass(frozen=True, kw_only=True)
class ImageGPTConfig(LikeGPT2):
    """Options of imagegpt: gpt2 over the colours of an image, one pixel after the other."""

    model_type: ClassVar[str] = "imagegpt"

    vocab_size: int = size(513, "number of colours, plus one start token")
    n_positions: int = size(1024, "rows of the position table: the most pixels of an image")
    n_embd: int = size(512, "width of the token states")
    n_layer: int = layers(24, "number of layers")
    n_head: int = size(8, "attention heads per layer; they divide n_embd")
    activation_function: str = option("quick_gelu", "activation of the feed-forward block", choices=ACTIVATIONS)
    tie_word_embeddings: bool = option(
        False, "one table for token embeddings and the head; the token that begins an image is then scored too"
    )
    pad_token_id: int | None = option(None, "id of the padding token; images of one size need none")
