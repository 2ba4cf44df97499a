"""Options of megatron-bert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import EncoderConfig, WithDecoder, WithPositionKinds
from eir_seq.models.options import layers, size


@dataclass(frozen=True, kw_only=True)
class MegatronBertConfig(WithDecoder, WithPositionKinds, EncoderConfig):
    """Options of megatron-bert."""

    model_type: ClassVar[str] = "megatron-bert"

    vocab_size: int = size(29056, "number of tokens in the vocabulary")
    hidden_size: int = size(1024, "width of the token states")
    num_hidden_layers: int = layers(24, "number of layers")
    num_attention_heads: int = size(16, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(4096, "inner width of the feed-forward block")
