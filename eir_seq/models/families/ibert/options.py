"""Options of ibert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.roberta.options import CountedPositions
from eir_seq.models.options import option


@dataclass(frozen=True, kw_only=True)
class IBertConfig(CountedPositions):
    """Options of ibert: roberta that can compute with integers."""

    model_type: ClassVar[str] = "ibert"

    hidden_act: str = option(
        "gelu", "activation of the feed-forward block; only this one has a form in integers", choices=("gelu",)
    )
    position_embedding_type: str = option(
        "absolute", "a learned table; scores by distance have no form in integers", choices=("absolute",)
    )
    quant_mode: bool = option(
        False, "compute with integers; activation ranges are learned in training with either value"
    )
    force_dequant: str = option(
        "none",
        "parts that stay in floating point under quant_mode",
        choices=("none", "gelu", "softmax", "layernorm", "nonlinear"),
    )

    def in_whole_numbers(self, part: str) -> bool:
        """Whether `part` (gelu, softmax or layernorm) is computed with integers."""
        return self.quant_mode and self.force_dequant not in (part, "nonlinear")
