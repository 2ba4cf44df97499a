"""Options of roformer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import EncoderConfig, WithDecoder
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class RoFormerConfig(WithDecoder, EncoderConfig):
    """Options of roformer."""

    model_type: ClassVar[str] = "roformer"

    vocab_size: int = size(50000, "number of tokens in the vocabulary")
    embedding_size: int | None = size(None, "width of the token and segment tables; hidden_size if absent")
    max_position_embeddings: int = size(1536, "rows of the RoPE table: the longest text in tokens")
    rotary_value: bool = option(False, "values are rotated by their positions too, not only queries and keys")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.hidden_size % (2 * self.num_attention_heads) and not self.hidden_size % self.num_attention_heads:
            yield "hidden_size", "heads must be of even width: their channels are rotated in pairs"
