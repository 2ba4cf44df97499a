"""Options of roc_bert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import BertConfig
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class RoCBertConfig(BertConfig):
    """Options of roc_bert: bert's, and how signs look and sound."""

    model_type: ClassVar[str] = "roc_bert"

    enable_pronunciation: bool = option(True, "tokens have a vector of how they sound (input_pronunciation_ids)")
    enable_shape: bool = option(True, "tokens have a vector of how they look (input_shape_ids)")
    pronunciation_embed_dim: int = size(768, "width of the vectors of sound")
    pronunciation_vocab_size: int = size(910, "number of sounds")
    shape_embed_dim: int = size(512, "width of the vectors of looks")
    shape_vocab_size: int = size(24858, "number of looks")
    concat_input: bool = option(
        True,
        "token, glyph and pronunciation embeddings are concatenated and projected; if false, averaged after the norm",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        for kind in ("shape", "pronunciation"):
            rows = getattr(self, f"{kind}_vocab_size")
            if self.pad_token_id is not None and self.pad_token_id >= rows:
                yield "pad_token_id", f"{self.pad_token_id} is outside {kind}_vocab_size {rows}"
            width = getattr(self, f"{kind}_embed_dim")
            if not self.concat_input and getattr(self, f"enable_{kind}") and width != self.hidden_size:
                yield (
                    f"{kind}_embed_dim",
                    f"{width} must be hidden_size {self.hidden_size} where concat_input is false: vectors are averaged",
                )
