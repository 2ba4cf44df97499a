"""Options of rembert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import EncoderConfig, WithDecoder
from eir_seq.models.options import layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class RemBertConfig(WithDecoder, EncoderConfig):
    """Options of rembert."""

    model_type: ClassVar[str] = "rembert"

    vocab_size: int = size(250300, "number of tokens in the vocabulary")
    hidden_size: int = size(1152, "width of the token states")
    num_hidden_layers: int = layers(32, "number of layers")
    num_attention_heads: int = size(18, "attention heads per layer; they divide hidden_size")
    input_embedding_size: int = size(256, "width of the tables of tokens, positions and segments, which are projected")
    output_embedding_size: int = size(1664, "width of the states that the language-model head scores tokens by")
    intermediate_size: int = size(4608, "inner width of the feed-forward block")
    hidden_dropout_prob: float = rate(0.0, "dropout on embeddings and on the output of every sublayer")
    attention_probs_dropout_prob: float = rate(0.0, "dropout on attention weights")
    classifier_dropout_prob: float = rate(0.1, "dropout of the classification heads")
    bos_token_id: int | None = option(312, "id of the token that begins a text")
    eos_token_id: int | None = option(313, "id of the token that ends a text")
    tie_word_embeddings: bool = option(
        False, "one table for token embeddings and the language-model head, where both are of the same width"
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.tie_word_embeddings and self.input_embedding_size != self.output_embedding_size:
            yield (
                "tie_word_embeddings",
                f"needs equal widths of input_embedding_size ({self.input_embedding_size}) and output_embedding_size "
                f"({self.output_embedding_size})",
            )
