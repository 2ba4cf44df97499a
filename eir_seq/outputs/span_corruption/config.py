"""What an experiment may say about span corruption."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from eir_seq.config.corruption import RemovedSpans
from eir_seq.outputs.language.config import RestoredOutputBase


class SpanCorruptionOutputConfig(RestoredOutputBase):
    """The spans that are taken out of a text, each after its sentinel (https://arxiv.org/abs/1910.10683)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.span_corruption.output:SpanCorruption"
    SENTINELS: ClassVar[int] = 100

    type: Literal["span_corruption"] = "span_corruption"
    noise_density: float = Field(0.15, gt=0, lt=1, description="fraction of a text's tokens that are masked")

    @property
    def corruption(self) -> RemovedSpans:
        """Spans become sentinels."""
        return RemovedSpans(self.noise_density, self.mean_span_length)
