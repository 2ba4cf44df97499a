"""Options of roberta and of what differs from it in names only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import BertConfig, EncoderConfig
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class CountedPositions(EncoderConfig):
    """Positions are counted over real tokens, from the number after `pad_token_id` on."""

    max_position_embeddings: int = size(
        512, "rows of the position table; a text has at most this many tokens less pad_token_id + 1"
    )
    pad_token_id: int | None = option(1, "id of the padding token; positions are counted from the next number on")
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.pad_token_id is None:
            yield "pad_token_id", "is needed: positions are counted from it"
        elif self.max_position_embeddings <= self.pad_token_id + 1:
            yield "max_position_embeddings", f"must exceed pad_token_id + 1 = {self.pad_token_id + 1}"

    def position_limit(self) -> int | None:
        return self.max_position_embeddings - (self.pad_token_id or 0) - 1


@dataclass(frozen=True, kw_only=True)
class RobertaConfig(CountedPositions, BertConfig):
    """Options of roberta: bert's, with other defaults and the ids of the sentence marks."""

    model_type: ClassVar[str] = "roberta"

    vocab_size: int = size(50265, "number of tokens in the vocabulary")


@dataclass(frozen=True, kw_only=True)
class CamembertConfig(CountedPositions, BertConfig):
    """Options of camembert: roberta's, with bert's size of the vocabulary as the default."""

    model_type: ClassVar[str] = "camembert"


@dataclass(frozen=True, kw_only=True)
class XLMRobertaConfig(CountedPositions, BertConfig):
    """Options of xlm-roberta: roberta's, with bert's size of the vocabulary as the default."""

    model_type: ClassVar[str] = "xlm-roberta"


@dataclass(frozen=True, kw_only=True)
class Data2VecTextConfig(CountedPositions, BertConfig):
    """Options of data2vec-text: roberta's, with bert's size of the vocabulary as the default."""

    model_type: ClassVar[str] = "data2vec-text"
