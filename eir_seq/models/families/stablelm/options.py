"""Options of stablelm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.llama.options import KV_HEADS, RotaryDecoderConfig
from eir_seq.models.options import option, rate, size

EPS = "added to the variance in layer norms"

ROTATED = "share of a head's channels that RoPE rotates, the first ones"


@dataclass(frozen=True, kw_only=True)
class StableLmConfig(RotaryDecoderConfig):
    """Options of stablelm."""

    model_type: ClassVar[str] = "stablelm"

    vocab_size: int = size(50304, "number of tokens in the vocabulary")
    hidden_size: int = size(2560, "width of the token states")
    intermediate_size: int = size(6912, "inner width of the feed-forward block")
    num_key_value_heads: int = size(32, KV_HEADS)
    max_position_embeddings: int = size(4096, "the longest text in tokens; a rope_scaling may lengthen it")
    layer_norm_eps: float = option(1e-5, EPS, minimum=0.0)
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | list[int] | None = option(0, "id (or ids) of the token that ends a text")
    use_qkv_bias: bool = option(False, "linear layers of queries, keys and values have biases")
    qk_layernorm: bool = option(False, "queries and keys are normed, each head with its own scale")
    use_parallel_residual: bool = option(False, "attention and feed-forward block read the same normed state")
    hidden_dropout: float = rate(0.0, "dropout on the output of feed-forward blocks")
    partial_rotary_factor: float = option(0.25, ROTATED, minimum=0.0, maximum=1.0)
