"""Options of layoutlm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import CACHE_MEANING, EncoderConfig
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class LayoutLMConfig(EncoderConfig):
    """Options of layoutlm: bert's encoder that reads the box of every token on its page."""

    model_type: ClassVar[str] = "layoutlm"

    position_embedding_type: str = option(
        "absolute",
        "positions as a learned table, or learned distances that enter the scores by the query (relative_key) or by "
        "query and key (relative_key_query)",
        choices=("absolute", "relative_key", "relative_key_query"),
    )
    use_cache: bool = option(True, CACHE_MEANING)
    max_2d_position_embeddings: int = size(
        1024, "rows of the tables of coordinates: edges, widths and heights of boxes stay below"
    )
