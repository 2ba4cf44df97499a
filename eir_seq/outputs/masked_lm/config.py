"""What an experiment may say about a masked language model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from eir_seq.config.corruption import HiddenTokens
from eir_seq.config.metrics import LOSS, PERPLEXITY, Metric
from eir_seq.errors import Fault
from eir_seq.outputs.language.config import MaskedOutputBase


class MaskedLmOutputConfig(MaskedOutputBase):
    """Tokens hidden in the texts of a sequence input, by the backbone's own head (https://arxiv.org/abs/1810.04805)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.masked_lm.output:MaskedLm"
    METRICS: ClassVar[tuple[Metric, ...]] = (
        LOSS,
        PERPLEXITY,
        Metric("accuracy", "Accuracy", "max", aliases=("acc", "token_accuracy", "accuracy_score", "top1", "top_1")),
    )
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = (("accuracy",),)
    TASK: ClassVar[str] = "masked-lm"

    type: Literal["masked_lm"] = "masked_lm"
    mask_share: float = Field(0.8, ge=0, le=1, description="fraction of the selected tokens that become the mask token")
    random_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="fraction of the selected tokens that become a random token; the rest stay unchanged",
    )

    @property
    def corruption(self) -> HiddenTokens:
        """Hidden tokens become the mask token, any token, or stay."""
        return HiddenTokens(
            self.mask_probability, self.mean_span_length, self.whole_words, self.mask_share, self.random_share
        )

    def own_faults(self, output: str) -> Iterator[Fault]:
        """Shares that are more than the whole."""
        if self.mask_share + self.random_share > 1:
            shares = f"{self.random_share} and mask_share {self.mask_share} are more than all hidden tokens"
            yield Fault(f"{output}.random_share", shares)
