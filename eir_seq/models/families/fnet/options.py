"""Options of fnet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class FNetConfig(ModelConfig):
    """Options of fnet: tokens are mixed by a Fourier transform, so there are no attention heads."""

    model_type: ClassVar[str] = "fnet"
    max_positions_option: ClassVar[str | None] = "max_position_embeddings"

    vocab_size: int = size(32000, "number of tokens in the vocabulary")
    hidden_size: int = size(768, "width of the token states")
    num_hidden_layers: int = layers(12, "number of layers")
    intermediate_size: int = size(3072, "inner width of the feed-forward block")
    hidden_act: str = option("gelu_new", "activation of the feed-forward block", choices=ACTIVATIONS)
    hidden_dropout_prob: float = rate(0.1, "dropout on embeddings and on the output of the feed-forward block")
    max_position_embeddings: int = size(512, "rows of the position table: the longest text in tokens")
    type_vocab_size: int = size(4, "number of segment types (token_type_ids)")
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    layer_norm_eps: float = option(1e-12, "added to the variance in layer norms", minimum=0.0)
    use_tpu_fourier_optimizations: bool = option(
        False, "the same transform by products with matrices, as TPUs prefer (up to 4096 positions)"
    )
    tpu_short_seq_length: int = size(512, "tokens that those matrices are made for; texts of other lengths go without")
    pad_token_id: int | None = option(3, "id of the padding token")
    bos_token_id: int | None = option(1, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            yield "pad_token_id", f"{self.pad_token_id} is outside the vocabulary of {self.vocab_size}"

    def by_matrices(self) -> bool:
        """Whether texts are transformed by fixed matrices."""
        return self.use_tpu_fourier_optimizations and self.max_position_embeddings <= 4096
