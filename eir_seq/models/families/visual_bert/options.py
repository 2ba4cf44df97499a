"""Options of visual_bert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import EncoderConfig
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class VisualBertConfig(EncoderConfig):
    """Options of visual_bert: bert's encoder over a text and regions of an image."""

    model_type: ClassVar[str] = "visual_bert"

    visual_embedding_dim: int = size(512, "width of the vectors of regions (visual_embeds)")
    bypass_transformer: bool = option(
        False, "regions skip the layers and join the text in one additional layer after them"
    )
    special_visual_initialize: bool = option(
        True, "fresh tables of positions and segments of regions begin as copies of those of the text"
    )
    pad_token_id: int | None = option(1, "id of the padding token")
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")
