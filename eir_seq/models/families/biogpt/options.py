"""Options of biogpt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.opt.options import LikeOPT
from eir_seq.models.options import ACTIVATIONS, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class BioGptConfig(LikeOPT):
    """Options of biogpt."""

    model_type: ClassVar[str] = "biogpt"

    vocab_size: int = size(42384, "number of tokens in the vocabulary")
    hidden_size: int = size(1024, "width of the token states")
    num_hidden_layers: int = layers(24, "number of layers")
    num_attention_heads: int = size(16, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(4096, "inner width of the feed-forward block")
    hidden_act: str = option("gelu", "activation of the feed-forward block", choices=ACTIVATIONS)
    hidden_dropout_prob: float = rate(0.1, "dropout on embeddings and on the output of every sublayer")
    attention_probs_dropout_prob: float = rate(0.1, "dropout on attention weights")
    max_position_embeddings: int = size(1024, "the longest text in tokens")
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    layer_norm_eps: float = option(
        1e-12, "published models add 1e-5 to the variance in norms, whatever this says", minimum=0.0
    )
    scale_embedding: bool = option(True, "token vectors are multiplied by the square root of hidden_size")
    activation_dropout: float = rate(0.0, "dropout inside of the feed-forward block")
