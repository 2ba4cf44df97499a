"""Options of bloom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from eir_seq.models.options import ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class BloomConfig(ModelConfig):
    """Options of bloom."""

    model_type: ClassVar[str] = "bloom"
    aliases = {"n_embed": "hidden_size", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}

    vocab_size: int = size(250880, "number of tokens in the vocabulary")
    hidden_size: int = size(64, "width of the token states")
    n_layer: int = layers(2, "number of layers")
    n_head: int = size(8, "attention heads per layer; they divide hidden_size")
    layer_norm_epsilon: float = option(1e-5, "added to the variance in layer norms", minimum=0.0)
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    use_cache: bool = option(True, "return keys and values")
    bos_token_id: int | None = option(1, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")
    pad_token_id: int | None = option(None, "id of the padding token, by which the last real token is found")
    apply_residual_connection_post_layernorm: bool = option(
        False, "the residual stream goes through the norm before each sublayer instead of around it"
    )
    hidden_dropout: float = rate(0.0, "dropout on the output of every sublayer")
    attention_dropout: float = rate(0.0, "dropout on attention weights")
    pretraining_tp: int = size(1, "in how many slices the pretraining computed linear layers; results do not change")
    slow_but_exact: bool = option(False, "sums in the order of the pretraining's slices; there is only one slice here")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.hidden_size % self.n_head:
            yield "hidden_size", f"{self.hidden_size} is not divisible by n_head {self.n_head}"
        if self.slow_but_exact and self.pretraining_tp > 1:
            yield "slow_but_exact", "published models lose biases where it goes with a pretraining_tp above 1"


def without_upstream(value: Any, works: Any) -> str:
    """That an option has no published implementation to be equal to."""
    return f"{value!r} is refused: the reference implementation ignores it and computes as with {works!r}"
