"""Options of sequence-default, this project's own encoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class SequenceDefaultConfig(ModelConfig):
    """Options of sequence-default, named as in EIR."""

    model_type: ClassVar[str] = "sequence-default"
    aliases = {
        "hidden_size": "embedding_dim",
        "intermediate_size": "dim_feedforward",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
    }

    vocab_size: int = size(30522, "number of tokens in the vocabulary")
    embedding_dim: int = size(64, "width of the token states")
    num_layers: int = layers(2, "number of layers")
    num_heads: int = size(8, "attention heads per layer; they divide embedding_dim")
    dim_feedforward: int | None = size(
        None, "inner width of the feed-forward block; four times embedding_dim if absent"
    )
    activation: str = option("silu", "activation of the gate in the feed-forward block", choices=ACTIVATIONS)
    position: str = option(
        "rotary",
        "how positions enter: rotary (RoPE), encode (sinusoidal) or embed (a learned table)",
        choices=("rotary", "encode", "embed"),
    )
    max_position_embeddings: int = size(4096, "rows of the learned position table (position: embed only)")
    window_size: int = option(
        0, "tokens attend only within windows of this many tokens, side by side; 0 for the whole text", minimum=0
    )
    dropout: float = rate(0.1, "dropout on embeddings, attention weights and the output of every sublayer")
    layer_norm_eps: float = option(1e-6, "added to the mean square in RMS norms", minimum=0.0)
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    masked: bool = option(False, "each token sees only itself and those before")
    pad_token_id: int | None = option(0, "id of the padding token")

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.embedding_dim % self.num_heads:
            yield "embedding_dim", f"{self.embedding_dim} is not divisible by num_heads {self.num_heads}"
        elif self.position == "rotary" and (self.embedding_dim // self.num_heads) % 2:
            yield "position", f"rotary needs heads of even width, not {self.embedding_dim // self.num_heads}"

    def position_limit(self) -> int | None:
        return self.max_position_embeddings if self.position == "embed" else None
