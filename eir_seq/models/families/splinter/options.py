"""Options of splinter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import EncoderConfig
from eir_seq.models.options import option


@dataclass(frozen=True, kw_only=True)
class SplinterConfig(EncoderConfig):
    """Options of splinter."""

    model_type: ClassVar[str] = "splinter"

    use_cache: bool = option(True, "kept for published files: it concerns decoders, which this encoder cannot be")
    question_token_id: int = option(
        104, "id of the token that stands for a question: its state asks for the answer", minimum=0
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.question_token_id >= self.vocab_size:
            yield "question_token_id", f"{self.question_token_id} is outside the vocabulary of {self.vocab_size}"
