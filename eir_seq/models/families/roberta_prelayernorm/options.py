"""Options of roberta-prelayernorm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import BertConfig
from eir_seq.models.families.roberta.options import CountedPositions
from eir_seq.models.options import size


@dataclass(frozen=True, kw_only=True)
class RobertaPreLayerNormConfig(CountedPositions, BertConfig):
    """Options of roberta-prelayernorm: roberta's."""

    model_type: ClassVar[str] = "roberta-prelayernorm"

    vocab_size: int = size(50265, "number of tokens in the vocabulary")
