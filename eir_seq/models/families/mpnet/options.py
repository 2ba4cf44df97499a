"""Options of mpnet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import EncoderWithoutSegments
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class MPNetConfig(EncoderWithoutSegments):
    """Options of mpnet."""

    model_type: ClassVar[str] = "mpnet"

    vocab_size: int = size(30527, "number of tokens in the vocabulary")
    max_position_embeddings: int = size(
        512, "rows of the position table; a text has at most two tokens less: positions are counted from 2 on"
    )
    relative_attention_num_buckets: int = option(
        32,
        "buckets of distances, each with its bias; other numbers are refused: the reference implementation sorts "
        "distances into 32 buckets whatever this says",
        choices=(32,),
    )
    pad_token_id: int | None = option(
        1, "id of the padding token; whatever it is, positions are counted over tokens other than 1"
    )
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.max_position_embeddings <= 2:
            yield "max_position_embeddings", "must exceed 2: positions are counted from 2 on"

    def position_limit(self) -> int | None:
        return self.max_position_embeddings - 2
