"""Options of llama and gemma: causal decoders with rotations, grouped keys and values, and gates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from eir_seq.models.configs.rope_scaling import MEANING, longest_text, scaling_kind, scaling_problem
from eir_seq.models.options import ACTIVATIONS, ModelConfig, option, rate, size


@dataclass(frozen=True, kw_only=True)
class LlamaLikeConfig(ModelConfig):
    """Options that all of them have."""

    max_positions_option: ClassVar[str | None] = "max_position_embeddings"

    vocab_size: int = size(32000, "number of tokens in the vocabulary")
    hidden_size: int = size(4096, "width of the token states")
    intermediate_size: int = size(11008, "inner width of the feed-forward block")
    num_hidden_layers: int = size(32, "number of layers")
    num_attention_heads: int = size(32, "query heads per layer")
    num_key_value_heads: int | None = size(None, "heads of keys and values; as many as query heads if absent")
    hidden_act: str = option("silu", "activation of the gate in the feed-forward block", choices=ACTIVATIONS)
    max_position_embeddings: int = size(2048, "the longest text in tokens")
    initializer_range: float = option(0.02, "deviation of the normal distribution of fresh weights", minimum=0.0)
    rms_norm_eps: float = option(1e-6, "added to the mean square in norms", minimum=0.0)
    use_cache: bool = option(True, "return keys and values")
    pad_token_id: int | None = option(None, "id of the padding token, by which the last real token is found")
    tie_word_embeddings: bool = option(False, "one table for token embeddings and the language-model head")
    rope_theta: float = option(10000.0, "base of the wave lengths of the rotations", minimum=1.0)
    rope_scaling: dict[str, Any] | None = option(None, MEANING)
    original_max_position_embeddings: int | None = size(
        None, "the longest text of the pretraining in tokens, where rope_scaling is of type longrope"
    )
    attention_dropout: float = rate(0.0, "dropout on attention weights")

    @property
    def width_of_head(self) -> int:
        """Channels of a head."""
        return getattr(self, "head_dim", None) or self.hidden_size // self.num_attention_heads

    def problems(self) -> Iterator[tuple[str, str]]:
        if getattr(self, "head_dim", None) is None and self.hidden_size % self.num_attention_heads:
            yield (
                "hidden_size",
                f"{self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}",
            )
        elif self.width_of_head % 2:
            yield "hidden_size", f"heads have {self.width_of_head} channels; rotations need an even number"
        if self.num_key_value_heads and self.num_attention_heads % self.num_key_value_heads:
            yield "num_key_value_heads", f"{self.num_key_value_heads} does not divide {self.num_attention_heads} heads"
        problem = scaling_problem(
            self.rope_scaling,
            channels=self.width_of_head,
            max_positions=self.max_position_embeddings,
            original=self.original_max_position_embeddings,
        )
        if problem is not None:
            yield "rope_scaling", problem
        elif self.original_max_position_embeddings and scaling_kind(self.rope_scaling) != "longrope":
            yield "original_max_position_embeddings", "is for a rope_scaling of type longrope only"
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            yield "pad_token_id", f"{self.pad_token_id} is not in a vocabulary of {self.vocab_size}"


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(LlamaLikeConfig):
    """Options of llama (and code_llama)."""

    model_type: ClassVar[str] = "llama"

    bos_token_id: int | None = option(1, "id of the token that begins a text")
    eos_token_id: int | list[int] | None = option(2, "id (or ids) of the token that ends a text")
    pretraining_tp: int = size(1, "in how many slices the pretraining computed linear layers; results do not change")
    attention_bias: bool = option(False, "linear layers of attention have biases")
    mlp_bias: bool = option(False, "linear layers of the feed-forward block have biases")
    head_dim: int | None = size(None, "channels of a head; hidden_size / num_attention_heads if absent")


@dataclass(frozen=True, kw_only=True)
class GemmaConfig(LlamaLikeConfig):
    """Options of gemma."""

    model_type: ClassVar[str] = "gemma"

    vocab_size: int = size(256000, "number of tokens in the vocabulary")
    hidden_size: int = size(3072, "width of the token states")
    intermediate_size: int = size(24576, "inner width of the feed-forward block")
    num_hidden_layers: int = size(28, "number of layers")
    num_attention_heads: int = size(16, "query heads per layer")
    num_key_value_heads: int | None = size(16, "heads of keys and values; as many as query heads if absent")
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
