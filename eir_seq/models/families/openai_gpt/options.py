"""Options of openai-gpt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.gpt2.options import SummaryOfChoices
from eir_seq.models.options import layers, option, rate, size

GPT_ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}


@dataclass(frozen=True, kw_only=True)
class OpenAIGPTConfig(SummaryOfChoices):
    """Options of openai-gpt."""

    model_type: ClassVar[str] = "openai-gpt"
    max_positions_option: ClassVar[str | None] = "n_positions"
    aliases = GPT_ALIASES

    vocab_size: int = size(40478, "number of tokens in the vocabulary")
    n_positions: int = size(512, "rows of the position table: the longest text in tokens")
    n_embd: int = size(768, "width of the token states")
    n_layer: int = layers(12, "number of layers")
    n_head: int = size(12, "attention heads per layer; they divide n_embd")
    afn: str = option(
        "gelu",
        "activation of the feed-forward block; gelu is the approximation by tanh here",
        choices=("relu", "silu", "gelu", "swish"),
    )
    resid_pdrop: float = rate(0.1, "dropout on the output of every sublayer")
    embd_pdrop: float = rate(0.1, "dropout on embeddings")
    attn_pdrop: float = rate(0.1, "dropout on attention weights")
    layer_norm_epsilon: float = option(1e-5, "added to the variance in layer norms", minimum=0.0)
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    pad_token_id: int | None = option(None, "id of the padding token, by which the last real token is found")

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.n_embd % self.n_head:
            yield "n_embd", f"{self.n_embd} is not divisible by n_head {self.n_head}"
