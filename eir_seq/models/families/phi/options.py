"""Options of phi."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.llama.options import KV_HEADS, RotaryDecoderConfig
from eir_seq.models.families.stablelm.options import EPS, ROTATED
from eir_seq.models.options import ACTIVATIONS, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class PhiConfig(RotaryDecoderConfig):
    """Options of phi."""

    model_type: ClassVar[str] = "phi"

    vocab_size: int = size(51200, "number of tokens in the vocabulary")
    hidden_size: int = size(2048, "width of the token states")
    intermediate_size: int = size(8192, "inner width of the feed-forward block")
    num_hidden_layers: int = layers(24, "number of layers")
    num_key_value_heads: int | None = size(None, KV_HEADS)
    resid_pdrop: float = rate(0.0, "dropout on the output of every sublayer")
    embd_pdrop: float = rate(0.0, "dropout on embeddings")
    hidden_act: str = option("gelu_new", "activation of the feed-forward block", choices=ACTIVATIONS)
    layer_norm_eps: float = option(1e-5, EPS, minimum=0.0)
    partial_rotary_factor: float = option(0.5, ROTATED, minimum=0.0, maximum=1.0)
    qk_layernorm: bool = option(False, "queries and keys are normed, all heads by one scale and shift")
