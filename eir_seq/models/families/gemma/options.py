"""Options of gemma."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.llama.options import KV_HEADS, LlamaLikeConfig
from eir_seq.models.options import ACTIVATIONS, layers, option, size


@dataclass(frozen=True, kw_only=True)
class GemmaConfig(LlamaLikeConfig):
    """Options of gemma."""

    model_type: ClassVar[str] = "gemma"

    vocab_size: int = size(256000, "number of tokens in the vocabulary")
    hidden_size: int = size(3072, "width of the token states")
    intermediate_size: int = size(24576, "inner width of the feed-forward block")
    num_hidden_layers: int = layers(28, "number of layers")
    num_attention_heads: int = size(16, "query heads per layer")
    num_key_value_heads: int | None = size(16, KV_HEADS)
    head_dim: int = size(256, "channels of a head, whatever hidden_size is")
    hidden_act: str = option(
        "gelu_pytorch_tanh", "activation of the gate in the feed-forward block", choices=ACTIVATIONS
    )
    hidden_activation: str | None = option(
        None, "another name of hidden_act in older files, which published models do not read", choices=ACTIVATIONS
    )
    max_position_embeddings: int = size(8192, "the longest text in tokens")
    pad_token_id: int | None = option(0, "id of the padding token, by which the last real token is found")
    eos_token_id: int | list[int] | None = option(1, "id (or ids) of the token that ends a text")
    bos_token_id: int | None = option(2, "id of the token that begins a text")
    tie_word_embeddings: bool = option(True, "one table for token embeddings and the language-model head")
    attention_bias: bool = option(False, "linear layers of attention have biases")
