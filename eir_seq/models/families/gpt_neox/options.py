"""Options of gpt_neox and gpt_neox_japanese."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size
from eir_seq.models.rope_options import MEANING, longest_text, scaling_problem


@dataclass(frozen=True, kw_only=True)
class LikeGPTNeoX(ModelConfig):
    """Options that both of them have."""

    max_positions_option: ClassVar[str | None] = "max_position_embeddings"

    vocab_size: int = size(50432, "number of tokens in the vocabulary")
    hidden_size: int = size(6144, "width of the token states")
    num_hidden_layers: int = layers(44, "number of layers")
    num_attention_heads: int = size(64, "attention heads per layer; they divide hidden_size")
    hidden_act: str = option("gelu", "activation of the feed-forward block", choices=ACTIVATIONS)
    rotary_pct: float = option(
        0.25, "share of each head's channels, the first ones, that RoPE rotates", minimum=0.0, maximum=1.0
    )
    rotary_emb_base: float = option(10000, "base of the RoPE frequencies", minimum=1.0)
    rope_scaling: dict[str, Any] | None = option(None, MEANING)
    attention_dropout: float = rate(0.0, "dropout on attention weights")
    hidden_dropout: float = rate(0.0, "dropout on the output of every sublayer")
    max_position_embeddings: int = size(2048, "the longest text in tokens")
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    layer_norm_eps: float = option(1e-5, "added to the variance in layer norms", minimum=0.0)
    use_cache: bool = option(True, "return keys and values")
    pad_token_id: int | None = option(None, "id of the padding token, by which the last real token is found")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        head, rest = divmod(self.hidden_size, self.num_attention_heads)
        rotated = int(head * self.rotary_pct)
        problem = scaling_problem(self.rope_scaling, channels=rotated, max_positions=self.max_position_embeddings)
        if rest:
            heads = self.num_attention_heads
            yield "hidden_size", f"{self.hidden_size} is not divisible by num_attention_heads {heads}"
        elif rotated % 2:
            yield "rotary_pct", f"{self.rotary_pct} of {head} channels is {rotated}; RoPE needs an even number"
        elif problem is not None:
            yield "rope_scaling", problem

    def position_limit(self) -> int:
        return longest_text(self.rope_scaling, self.max_position_embeddings)


@dataclass(frozen=True, kw_only=True)
class GPTNeoXConfig(LikeGPTNeoX):
    """Options of gpt_neox."""

    model_type: ClassVar[str] = "gpt_neox"

    intermediate_size: int = size(24576, "inner width of the feed-forward block")
    hidden_dropout: float = rate(0.0, "dropout on embeddings and on the output of every sublayer")
    classifier_dropout: float = rate(0.1, "dropout before the token classification head")
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")
    tie_word_embeddings: bool = option(False, "one table for token embeddings and the language-model head")
    use_parallel_residual: bool = option(True, "attention and feed-forward block read the same state, side by side")
    attention_bias: bool = option(True, "linear layers of attention have biases")


@dataclass(frozen=True, kw_only=True)
class GPTNeoXJapaneseConfig(LikeGPTNeoX):
    """Options of gpt_neox_japanese."""

    model_type: ClassVar[str] = "gpt_neox_japanese"

    vocab_size: int = size(32000, "number of tokens in the vocabulary")
    hidden_size: int = size(2560, "width of the token states")
    num_hidden_layers: int = layers(32, "number of layers")
    num_attention_heads: int = size(32, "attention heads per layer; they divide hidden_size")
    intermediate_multiple_size: int = size(4, "inner width of the feed-forward block, as a multiple of hidden_size")
    rotary_pct: float = option(
        1.0, "share of each head's channels, the first ones, that RoPE rotates", minimum=0.0, maximum=1.0
    )
    attention_dropout: float = rate(0.1, "dropout on attention weights")
    bos_token_id: int | None = option(31996, "id of the token that begins a text")
    eos_token_id: int | None = option(31999, "id of the token that ends a text")
