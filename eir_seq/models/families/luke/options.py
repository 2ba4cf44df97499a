"""Options of luke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.roberta.options import CountedPositions
from eir_seq.models.options import option, rate, size


@dataclass(frozen=True, kw_only=True)
class LukeConfig(CountedPositions):
    """Options of luke: roberta's encoder that reads entities alongside words."""

    model_type: ClassVar[str] = "luke"

    vocab_size: int = size(50267, "number of tokens in the vocabulary")
    entity_vocab_size: int = size(500000, "number of entities")
    entity_emb_size: int = size(256, "width of the table of entities")
    use_entity_aware_attention: bool = option(
        True, "queries are projected by what they look from and at: words at words, words at entities and so on"
    )
    classifier_dropout: float | None = rate(None, "dropout of the classification head; hidden_dropout_prob if absent")
