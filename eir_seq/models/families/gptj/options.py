"""Options of gptj and codegen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.gpt2.options import GPTSizes
from eir_seq.models.options import layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class GPTJConfig(GPTSizes):
    """Options of gptj."""

    model_type: ClassVar[str] = "gptj"

    vocab_size: int = size(50400, "number of tokens in the vocabulary")
    n_positions: int = size(2048, "the longest text in tokens")
    n_embd: int = size(4096, "width of the token states")
    n_layer: int = layers(28, "number of layers")
    n_head: int = size(16, "attention heads per layer; they divide n_embd")
    rotary_dim: int = size(64, "channels of each head that RoPE rotates, the first ones; an even number")
    resid_pdrop: float = rate(0.0, "dropout on the output of every sublayer")
    embd_pdrop: float = rate(0.0, "dropout on embeddings")
    attn_pdrop: float = rate(0.0, "dropout on attention weights")
    bos_token_id: int | None = option(50256, "id of the token that begins a text")
    eos_token_id: int | None = option(50256, "id of the token that ends a text")
    tie_word_embeddings: bool = option(False, "one table for token embeddings and the language-model head")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.rotary_dim % 2:
            yield "rotary_dim", f"{self.rotary_dim} is odd; RoPE rotates pairs of channels"
        if self.n_embd % self.n_head == 0 and self.rotary_dim > self.n_embd // self.n_head:
            yield "rotary_dim", f"{self.rotary_dim} is more than the {self.n_embd // self.n_head} channels of a head"


CODEGEN_BLOCKS = 4
"""Published projections come in this many blocks of heads."""


@dataclass(frozen=True, kw_only=True)
class CodeGenConfig(GPTJConfig):
    """Options of codegen."""

    model_type: ClassVar[str] = "codegen"

    n_ctx: int = size(2048, "n_positions under an older name; published models are built with it but never read it")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.n_head % CODEGEN_BLOCKS:
            yield "n_head", f"{self.n_head} is not divisible by {CODEGEN_BLOCKS}, the blocks of published projections"
