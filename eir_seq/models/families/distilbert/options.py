"""Options of distilbert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class DistilBertConfig(ModelConfig):
    """Options of distilbert."""

    model_type: ClassVar[str] = "distilbert"
    max_positions_option: ClassVar[str | None] = "max_position_embeddings"
    aliases = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}

    vocab_size: int = size(30522, "number of tokens in the vocabulary")
    max_position_embeddings: int = size(512, "rows of the position table: the longest text in tokens")
    sinusoidal_pos_embds: bool = option(False, "positions are fixed sinusoids instead of a learned table")
    n_layers: int = layers(6, "number of layers")
    n_heads: int = size(12, "attention heads per layer; they divide dim")
    dim: int = size(768, "width of the token states")
    hidden_dim: int = size(3072, "inner width of the feed-forward block")
    dropout: float = rate(0.1, "dropout on embeddings and in the feed-forward block")
    attention_dropout: float = rate(0.1, "dropout on attention weights")
    activation: str = option("gelu", "activation of the feed-forward block", choices=ACTIVATIONS)
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    qa_dropout: float = rate(0.1, "dropout of the question-answering head")
    seq_classif_dropout: float = rate(0.2, "dropout of the classification head")
    pad_token_id: int | None = option(0, "id of the padding token")

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.dim % self.n_heads:
            yield "dim", f"{self.dim} is not divisible by n_heads {self.n_heads}"
