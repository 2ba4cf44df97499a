"""Options of opt, and what biogpt and xglm share with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class LikeOPT(ModelConfig):
    """Options that all of them have."""

    max_positions_option: ClassVar[str | None] = "max_position_embeddings"

    max_position_embeddings: int = size(2048, "the longest text in tokens")
    layerdrop: float = rate(0.0, "probability of skipping a layer in training (LayerDrop)")
    use_cache: bool = option(True, "return keys and values")
    pad_token_id: int | None = option(1, "id of the padding token, whose fresh vector is zero")
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        width, heads = (self.aliases.get(name, name) for name in ("hidden_size", "num_attention_heads"))
        if getattr(self, width) % getattr(self, heads):
            yield width, f"{getattr(self, width)} is not divisible by {heads} {getattr(self, heads)}"


@dataclass(frozen=True, kw_only=True)
class OPTConfig(LikeOPT):
    """Options of opt."""

    model_type: ClassVar[str] = "opt"

    vocab_size: int = size(50272, "number of tokens in the vocabulary")
    hidden_size: int = size(768, "width of the token states between layers")
    num_hidden_layers: int = layers(12, "number of layers")
    ffn_dim: int = size(3072, "inner width of the feed-forward block")
    do_layer_norm_before: bool = option(True, "pre-norm layers and a final norm, instead of post-norm layers")
    _remove_final_layer_norm: bool = option(False, "no final norm, as in files from before June 2022")
    word_embed_proj_dim: int | None = size(
        None, "width of token vectors and last states where it is not that of the layers: linear layers go between them"
    )
    dropout: float = rate(0.1, "dropout on the output of every sublayer")
    attention_dropout: float = rate(0.0, "dropout on attention weights")
    num_attention_heads: int = size(12, "attention heads per layer; they divide hidden_size")
    activation_function: str = option("relu", "activation of the feed-forward block", choices=ACTIVATIONS)
    init_std: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    bos_token_id: int | None = option(2, "id of the token that begins a text")
    enable_bias: bool = option(True, "linear layers of attention and feed-forward blocks have biases")
    layer_norm_elementwise_affine: bool = option(True, "norms have scales and shifts that are learned")

    @property
    def width(self) -> int:
        return self.word_embed_proj_dim or self.hidden_size
