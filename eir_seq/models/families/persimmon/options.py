"""Options of persimmon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.llama.options import RotaryDecoderConfig
from eir_seq.models.families.stablelm.options import EPS, ROTATED
from eir_seq.models.options import ACTIVATIONS, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class PersimmonConfig(RotaryDecoderConfig):
    """Options of persimmon."""

    model_type: ClassVar[str] = "persimmon"

    vocab_size: int = size(262144, "number of tokens in the vocabulary")
    intermediate_size: int = size(16384, "inner width of the feed-forward block")
    num_hidden_layers: int = layers(36, "number of layers")
    num_attention_heads: int = size(64, "attention heads per layer")
    hidden_act: str = option("relu2", "activation of the feed-forward block", choices=ACTIVATIONS)
    max_position_embeddings: int = size(16384, "the longest text in tokens; a rope_scaling may lengthen it")
    layer_norm_eps: float = option(1e-5, EPS, minimum=0.0)
    rope_theta: float = option(25000.0, "base of the RoPE frequencies", minimum=1.0)
    qk_layernorm: bool = option(True, "queries and keys are normed, all heads by one scale and shift")
    hidden_dropout: float = rate(0.0, "dropout on the output of feed-forward blocks")
    partial_rotary_factor: float = option(0.5, ROTATED, minimum=0.0, maximum=1.0)
