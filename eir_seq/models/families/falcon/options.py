"""Options of falcon."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size
from eir_seq.models.rope_options import MEANING, longest_text, scaling_problem


@dataclass(frozen=True, kw_only=True)
class FalconConfig(ModelConfig):
    """Options of falcon."""

    model_type: ClassVar[str] = "falcon"
    aliases = {"n_embed": "hidden_size"}

    vocab_size: int = size(65024, "number of tokens in the vocabulary")
    hidden_size: int = size(4544, "width of the token states")
    num_hidden_layers: int = layers(32, "number of layers")
    num_attention_heads: int = size(71, "query heads per layer; they divide hidden_size")
    num_ln_in_parallel_attn: int | None = option(
        None,
        "norms before a layer with parallel_attn; with new_decoder_architecture two if absent, else always one",
        choices=(1, 2),
    )
    layer_norm_epsilon: float = option(1e-5, "added to the variance in layer norms", minimum=0.0)
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    use_cache: bool = option(True, "return keys and values")
    hidden_dropout: float = rate(0.0, "dropout on what the sublayers add")
    attention_dropout: float = rate(
        0.0, "dropout on attention weights and, without parallel_attn, on what attention adds"
    )
    num_kv_heads: int | None = size(
        None, "heads of keys and values with new_decoder_architecture; as many as query heads if absent"
    )
    alibi: bool = option(False, "scores fall with the distance; else RoPE rotates queries and keys")
    new_decoder_architecture: bool = option(False, "query heads share keys and values in groups (num_kv_heads)")
    multi_query: bool = option(
        True, "without new_decoder_architecture: all query heads share one head of keys and values"
    )
    parallel_attn: bool = option(True, "attention and feed-forward block read the same state, side by side")
    bias: bool = option(False, "linear layers have biases")
    max_position_embeddings: int = size(2048, "the longest text in tokens; alibi sets no bound")
    rope_theta: float = option(10000.0, "base of the RoPE frequencies", minimum=1.0)
    rope_scaling: dict[str, Any] | None = option(None, MEANING)
    bos_token_id: int | None = option(11, "id of the token that begins a text")
    eos_token_id: int | None = option(11, "id of the token that ends a text")
    pad_token_id: int | None = option(None, "id of the padding token, by which the last real token is found")
    ffn_hidden_size: int | None = size(None, "inner width of the feed-forward block; four times hidden_size if absent")
    activation: str = option("gelu", "activation of the feed-forward block", choices=ACTIVATIONS)

    @property
    def key_heads(self) -> int:
        """Heads of keys and values per layer."""
        if self.new_decoder_architecture:
            return self.num_kv_heads or self.num_attention_heads
        return 1 if self.multi_query else self.num_attention_heads

    @property
    def norms_of_layer(self) -> int:
        """Norms before the sublayers of a layer with `parallel_attn`."""
        return self.num_ln_in_parallel_attn or (2 if self.new_decoder_architecture else 1)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        heads, new = self.num_attention_heads, self.new_decoder_architecture
        width, rest = divmod(self.hidden_size, heads)
        if rest:
            yield "hidden_size", f"{self.hidden_size} is not divisible by num_attention_heads {heads}"
        elif width % 2 and not self.alibi:
            yield "hidden_size", f"heads have {width} channels; RoPE needs an even number"
        if new and heads % self.key_heads:
            yield "num_kv_heads", f"{self.key_heads} does not divide {heads} heads"
        if not new and self.num_kv_heads not in (None, heads, self.key_heads):
            yield "num_kv_heads", f"{self.num_kv_heads} of {heads} heads needs new_decoder_architecture"
        if new and not self.parallel_attn:
            yield "parallel_attn", "new_decoder_architecture has no layers with sequential sublayers"
        if not new and self.num_ln_in_parallel_attn == 2:
            yield "num_ln_in_parallel_attn", "two norms need new_decoder_architecture"
        if self.alibi and self.rope_scaling is not None:
            yield "rope_scaling", "RoPE is not used with alibi"
        elif not rest:
            limit = self.max_position_embeddings
            if (problem := scaling_problem(self.rope_scaling, channels=width, max_positions=limit)) is not None:
                yield "rope_scaling", problem

    def position_limit(self) -> int | None:
        return None if self.alibi else longest_text(self.rope_scaling, self.max_position_embeddings)
