"""Options of mobilebert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import EncoderConfig
from eir_seq.models.options import ACTIVATIONS, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class MobileBertConfig(EncoderConfig):
    """Options of mobilebert: thin layers that work in a bottleneck."""

    model_type: ClassVar[str] = "mobilebert"

    hidden_size: int = size(512, "width of the token states between layers")
    num_hidden_layers: int = layers(24, "number of layers")
    num_attention_heads: int = size(4, "attention heads per layer; they divide the width inside layers")
    intermediate_size: int = size(512, "inner width of the feed-forward blocks")
    hidden_act: str = option("relu", "activation of the feed-forward blocks", choices=ACTIVATIONS)
    hidden_dropout_prob: float = rate(0.0, "dropout on embeddings and on what layers add")
    embedding_size: int = size(128, "width of the token table")
    trigram_input: bool = option(True, "a token enters together with its two neighbours")
    use_bottleneck: bool = option(True, "layers work on narrower states of intra_bottleneck_size")
    intra_bottleneck_size: int = size(128, "width of the states inside layers")
    use_bottleneck_attention: bool = option(
        False, "queries, keys and values are all taken from the narrow states; else values from the wide ones"
    )
    key_query_shared_bottleneck: bool = option(
        True, "queries and keys are computed from separate narrow states (unless use_bottleneck_attention)"
    )
    num_feedforward_networks: int = size(4, "feed-forward blocks per layer")
    normalization_type: str = option(
        "no_norm", "a learned scale and shift only, or layer norms", choices=("no_norm", "layer_norm")
    )
    classifier_activation: bool = option(
        True, "the pooler has a layer with tanh; otherwise it returns the first token's state"
    )
    classifier_dropout: float | None = rate(None, "dropout of the classification head; hidden_dropout_prob if absent")

    @property
    def inner_size(self) -> int:
        """Width of the states inside layers."""
        return self.intra_bottleneck_size if self.use_bottleneck else self.hidden_size

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            yield "pad_token_id", f"{self.pad_token_id} is outside the vocabulary of {self.vocab_size}"
        if self.inner_size % self.num_attention_heads:
            name = "intra_bottleneck_size" if self.use_bottleneck else "hidden_size"
            yield name, f"{self.inner_size} is not divisible by num_attention_heads {self.num_attention_heads}"
        if self.embedding_size > self.hidden_size:
            yield "embedding_size", f"{self.embedding_size} exceeds hidden_size {self.hidden_size}"
        own_queries = self.use_bottleneck_attention or self.key_query_shared_bottleneck
        if self.hidden_size != self.inner_size and not own_queries:
            yield (
                "key_query_shared_bottleneck",
                "false needs use_bottleneck_attention: true, or an intra_bottleneck_size equal to hidden_size",
            )
