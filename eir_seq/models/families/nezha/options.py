"""Options of nezha."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import EncoderConfig, WithDecoder
from eir_seq.models.options import option, rate, size


@dataclass(frozen=True, kw_only=True)
class NezhaConfig(WithDecoder, EncoderConfig):
    """Options of nezha."""

    model_type: ClassVar[str] = "nezha"

    vocab_size: int = size(21128, "number of tokens in the vocabulary")
    max_position_embeddings: int = size(512, "the longest text in tokens")
    max_relative_position: int = size(64, "distance from which on tokens count as equally far")
    classifier_dropout: float | None = rate(0.1, "dropout of the classification head; hidden_dropout_prob if absent")
    add_cross_attention: bool = option(
        False, "not to be had: its attention goes by distances, and two texts have none", choices=(False,)
    )
    bos_token_id: int | None = option(2, "id of the token that begins a text")
    eos_token_id: int | None = option(3, "id of the token that ends a text")
