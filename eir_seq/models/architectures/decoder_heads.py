"""Heads of decoders."""

from __future__ import annotations

from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.options import ModelConfig


def next_token(c: ModelConfig, *, bias: bool = False) -> LanguageModel.Config:
    """Scores of the next token."""
    return LanguageModel.Config.of(c, predicts="next", bias=bias)


def last_token_classification(c: ModelConfig) -> SequenceClassification.Config:
    """A linear layer without bias on the state of the last token that is no padding."""
    return SequenceClassification.Config.of(c, reads="last", bias=False, marker_id=getattr(c, "pad_token_id", None))
