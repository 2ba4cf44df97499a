"""Options of bert-generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import EncoderWithoutSegments, WithDecoder, WithPositionKinds
from eir_seq.models.options import layers, option, size


@dataclass(frozen=True, kw_only=True)
class BertGenerationConfig(WithDecoder, WithPositionKinds, EncoderWithoutSegments):
    """Options of bert-generation. Its table of positions is added whatever `position_embedding_type` is."""

    model_type: ClassVar[str] = "bert-generation"

    vocab_size: int = size(50358, "number of tokens in the vocabulary")
    hidden_size: int = size(1024, "width of the token states")
    num_hidden_layers: int = layers(24, "number of layers")
    num_attention_heads: int = size(16, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(4096, "inner width of the feed-forward block")
    position_embedding_type: str = option(
        "absolute",
        "learned distances that enter the scores, added to the learned position table: by the query (relative_key), "
        "by query and key (relative_key_query), or none (absolute)",
        choices=("absolute", "relative_key", "relative_key_query"),
    )
    bos_token_id: int | None = option(2, "id of the token that begins a text")
    eos_token_id: int | None = option(1, "id of the token that ends a text")
