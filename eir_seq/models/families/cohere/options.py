"""Options of cohere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.llama.options import KV_HEADS, RotaryDecoderConfig
from eir_seq.models.families.stablelm.options import EPS
from eir_seq.models.options import layers, option, size


@dataclass(frozen=True, kw_only=True)
class CohereConfig(RotaryDecoderConfig):
    """Options of cohere."""

    model_type: ClassVar[str] = "cohere"

    vocab_size: int = size(256000, "number of tokens in the vocabulary")
    hidden_size: int = size(8192, "width of the token states")
    intermediate_size: int = size(22528, "inner width of the feed-forward block")
    logit_scale: float = option(0.0625, "factor on the scores of the language-model head")
    num_hidden_layers: int = layers(40, "number of layers")
    num_attention_heads: int = size(64, "query heads per layer")
    num_key_value_heads: int | None = size(None, KV_HEADS)
    max_position_embeddings: int = size(8192, "the longest text in tokens; a rope_scaling may lengthen it")
    layer_norm_eps: float = option(1e-5, EPS, minimum=0.0)
    pad_token_id: int | None = option(0, "id of the padding token, by which the last real token is found")
    bos_token_id: int | None = option(5, "id of the token that begins a text")
    eos_token_id: int | list[int] | None = option(255001, "id (or ids) of the token that ends a text")
    tie_word_embeddings: bool = option(True, "one table for token embeddings and the language-model head")
    attention_bias: bool = option(False, "linear layers of attention have biases")
    use_qk_norm: bool = option(False, "queries and keys are normed, each head with its own scale")
