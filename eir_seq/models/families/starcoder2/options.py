"""Options of starcoder2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.llama.options import KV_HEADS, WINDOW, RotaryDecoderConfig
from eir_seq.models.families.stablelm.options import EPS
from eir_seq.models.options import ACTIVATIONS, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class Starcoder2Config(RotaryDecoderConfig):
    """Options of starcoder2."""

    model_type: ClassVar[str] = "starcoder2"

    vocab_size: int = size(49152, "number of tokens in the vocabulary")
    hidden_size: int = size(3072, "width of the token states")
    intermediate_size: int = size(12288, "inner width of the feed-forward block")
    num_hidden_layers: int = layers(30, "number of layers")
    num_attention_heads: int = size(24, "query heads per layer")
    num_key_value_heads: int = size(2, KV_HEADS)
    hidden_act: str = option("gelu_pytorch_tanh", "activation of the feed-forward block", choices=ACTIVATIONS)
    max_position_embeddings: int = size(4096, "the longest text in tokens; a rope_scaling may lengthen it")
    initializer_range: float = option(
        0.018042, "standard deviation of fresh weights (normal distribution)", minimum=0.0
    )
    norm_epsilon: float = option(1e-5, EPS, minimum=0.0)
    bos_token_id: int | None = option(50256, "id of the token that begins a text")
    eos_token_id: int | list[int] | None = option(50256, "id (or ids) of the token that ends a text")
    tie_word_embeddings: bool = option(True, "one table for token embeddings and the language-model head")
    sliding_window: int | None = size(None, WINDOW)
    residual_dropout: float = rate(0.0, "dropout on the output of every sublayer")
    embedding_dropout: float = rate(0.0, "dropout on embeddings")
    use_bias: bool = option(True, "linear layers have biases")
