"""Options of ctrl."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.openai_gpt.options import GPT_ALIASES
from eir_seq.models.options import ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class CTRLConfig(ModelConfig):
    """Options of ctrl."""

    model_type: ClassVar[str] = "ctrl"
    max_positions_option: ClassVar[str | None] = "n_positions"
    aliases = GPT_ALIASES

    vocab_size: int = size(246534, "number of tokens in the vocabulary")
    n_positions: int = size(256, "the longest text in tokens")
    n_embd: int = size(1280, "width of the token states")
    dff: int = size(8192, "inner width of the feed-forward block")
    n_layer: int = layers(48, "number of layers")
    n_head: int = size(16, "attention heads per layer; they divide n_embd")
    resid_pdrop: float = rate(0.1, "dropout on the output of every sublayer")
    embd_pdrop: float = rate(0.1, "dropout on embeddings")
    layer_norm_epsilon: float = option(1e-6, "added to the variance in the final norm", minimum=0.0)
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    use_cache: bool = option(True, "return keys and values")
    pad_token_id: int | None = option(None, "id of the padding token, by which the last real token is found")

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.n_embd % self.n_head:
            yield "n_embd", f"{self.n_embd} is not divisible by n_head {self.n_head}"
        if self.n_embd % 2:
            yield "n_embd", f"{self.n_embd} is odd; sinusoidal positions are pairs of a sine and a cosine"
