"""Options of rwkv."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.options import ModelConfig, layers, option, size


@dataclass(frozen=True, kw_only=True)
class RwkvConfig(ModelConfig):
    """Options of rwkv."""

    model_type: ClassVar[str] = "rwkv"
    max_positions_option: ClassVar[str | None] = "context_length"
    aliases = {"max_position_embeddings": "context_length"}

    vocab_size: int = size(50277, "number of tokens in the vocabulary")
    context_length: int = size(1024, "the longest text in tokens of one pass; states carry on beyond it")
    hidden_size: int = size(4096, "width of the token states")
    num_hidden_layers: int = layers(32, "number of layers")
    attention_hidden_size: int | None = size(None, "channels of the time mixing; hidden_size if absent")
    intermediate_size: int | None = size(None, "inner width of the channel mixing; four times hidden_size if absent")
    layer_norm_epsilon: float = option(1e-5, "added to the variance in layer norms", minimum=0.0)
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | None = option(0, "id of the token that ends a text")
    rescale_every: int = option(
        6, "in evaluation, hidden states are halved after every n-th layer to fit float16; 0 or less: never"
    )
    tie_word_embeddings: bool = option(False, "one table for token embeddings and the language-model head")
    use_cache: bool = option(True, "return the state after the last token in evaluation")

    @property
    def mixing_size(self) -> int:
        """`attention_hidden_size` as a number."""
        return self.attention_hidden_size or self.hidden_size

    @property
    def inner_size(self) -> int:
        """`intermediate_size` as a number."""
        return self.intermediate_size or 4 * self.hidden_size
