"""Options of llama, and what other decoders with rotary embeddings share with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size
from eir_seq.models.rope_options import MEANING, longest_text, scaling_kind, scaling_problem

KV_HEADS = "heads of keys and values; as many as query heads if absent"

WINDOW = "sliding window: how many tokens a token attends to, itself included; the whole text if absent"


@dataclass(frozen=True, kw_only=True)
class RotaryDecoderConfig(ModelConfig):
    """Options that causal decoders with RoPE have in common."""

    max_positions_option: ClassVar[str | None] = "max_position_embeddings"

    vocab_size: int = size(32000, "number of tokens in the vocabulary")
    hidden_size: int = size(4096, "width of the token states")
    intermediate_size: int = size(11008, "inner width of the feed-forward block")
    num_hidden_layers: int = layers(32, "number of layers")
    num_attention_heads: int = size(32, "query heads per layer")
    hidden_act: str = option("silu", "activation of the (gate in the) feed-forward block", choices=ACTIVATIONS)
    max_position_embeddings: int = size(2048, "the longest text in tokens; a rope_scaling may lengthen it")
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    use_cache: bool = option(True, "return keys and values")
    pad_token_id: int | None = option(None, "id of the padding token, by which the last real token is found")
    bos_token_id: int | None = option(1, "id of the token that begins a text")
    eos_token_id: int | list[int] | None = option(2, "id (or ids) of the token that ends a text")
    tie_word_embeddings: bool = option(False, "one table for token embeddings and the language-model head")
    rope_theta: float = option(10000.0, "base of the RoPE frequencies", minimum=1.0)
    rope_scaling: dict[str, Any] | None = option(None, MEANING)
    original_max_position_embeddings: int | None = size(
        None, "the longest text of the pretraining in tokens, where rope_scaling is of type longrope"
    )
    attention_dropout: float = rate(0.0, "dropout on attention weights")

    @property
    def width_of_head(self) -> int:
        """Channels of a head."""
        return getattr(self, "head_dim", None) or self.hidden_size // self.num_attention_heads

    @property
    def rotary_share(self) -> float:
        """Share of a head's channels that RoPE rotates."""
        return getattr(self, "partial_rotary_factor", 1.0)

    @property
    def kv_heads(self) -> int | None:
        """Heads of keys and values where they are not as many as query heads."""
        return getattr(self, "num_key_value_heads", None)

    def position_limit(self) -> int:
        return longest_text(self.rope_scaling, self.max_position_embeddings)

    def problems(self) -> Iterator[tuple[str, str]]:
        rotated = int(self.width_of_head * self.rotary_share)
        if getattr(self, "head_dim", None) is None and self.hidden_size % self.num_attention_heads:
            yield (
                "hidden_size",
                f"{self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}",
            )
        elif rotated % 2 or not rotated:
            whole = "" if self.rotary_share == 1 else f", of which {rotated} are rotated"
            yield "hidden_size", f"heads have {self.width_of_head} channels{whole}; RoPE needs an even number"
        if self.kv_heads and self.num_attention_heads % self.kv_heads:
            yield "num_key_value_heads", f"{self.kv_heads} does not divide {self.num_attention_heads} heads"
        problem = scaling_problem(
            self.rope_scaling,
            channels=rotated,
            max_positions=self.max_position_embeddings,
            original=self.original_max_position_embeddings,
        )
        if problem is not None:
            yield "rope_scaling", problem
        elif scaling_kind(self.rope_scaling) == "yarn" and self.rope_theta == 1:
            yield "rope_theta", "must exceed 1 with a rope_scaling of type yarn"
        elif self.original_max_position_embeddings and scaling_kind(self.rope_scaling) != "longrope":
            yield "original_max_position_embeddings", "is for a rope_scaling of type longrope only"
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            yield "pad_token_id", f"{self.pad_token_id} is not in a vocabulary of {self.vocab_size}"


@dataclass(frozen=True, kw_only=True)
class LlamaLikeConfig(RotaryDecoderConfig):
    """Options of those with root-mean-square norms."""

    num_key_value_heads: int | None = size(None, KV_HEADS)
    rms_norm_eps: float = option(1e-6, "added to the mean square in norms", minimum=0.0)


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(LlamaLikeConfig):
    """Options of llama (and code_llama)."""

    model_type: ClassVar[str] = "llama"

    pretraining_tp: int = size(1, "in how many slices the pretraining computed linear layers; results do not change")
    attention_bias: bool = option(False, "linear layers of attention have biases")
    mlp_bias: bool = option(False, "linear layers of the feed-forward block have biases")
    head_dim: int | None = size(None, "channels of a head; hidden_size / num_attention_heads if absent")
