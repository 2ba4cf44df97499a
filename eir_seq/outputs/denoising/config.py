"""What an experiment may say about denoising."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from eir_seq.config.corruption import NoisedText
from eir_seq.outputs.language.config import RestoredOutputBase


class DenoisingOutputConfig(RestoredOutputBase):
    """A whole text from one with spans, tokens and the order of sentences lost (https://arxiv.org/abs/1910.13461)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.denoising.output:Denoising"

    type: Literal["denoising"] = "denoising"
    mask_share: float = Field(
        0.3, ge=0, lt=1, description="fraction of tokens in spans that one mask token replaces (Poisson lengths)"
    )
    permute_sentences: bool = Field(True, description="shuffle the sentences of a text")
    delete_probability: float = Field(0.0, ge=0, lt=1, description="fraction of the other tokens that are deleted")

    @property
    def corruption(self) -> NoisedText:
        """Spans become mask tokens, other tokens and the order of sentences are lost."""
        return NoisedText(self.mask_share, self.mean_span_length, self.permute_sentences, self.delete_probability)
