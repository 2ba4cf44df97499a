"""Heads of decoders."""

from __future__ import annotations

from eir_seq.models.architecture import TaskHead
from eir_seq.models.checkpoint.keymap import Same
from eir_seq.models.families.gpt2.double_heads import DoubleHeads
from eir_seq.models.families.gpt2.options import SummaryOfChoices
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.heads.summary import SummaryClassification
from eir_seq.models.options import ModelConfig


def next_token(c: ModelConfig, *, bias: bool = False) -> LanguageModel.Config:
    """Scores of the next token."""
    return LanguageModel.Config.of(c, predicts="next", bias=bias)


def last_token_classification(c: ModelConfig) -> SequenceClassification.Config:
    """A linear layer without bias on the state of the last token that is no padding."""
    return SequenceClassification.Config.of(c, reads="last", bias=False, marker_id=getattr(c, "pad_token_id", None))


def _double_heads(c: SummaryOfChoices) -> DoubleHeads.Config:
    width = 1 if c.summary_proj_to_labels else c.width
    project = width if c.summary_use_proj else None
    return DoubleHeads.Config(
        tokens=next_token(c),
        choices=SummaryClassification.Config.by_options(c, project=project, classify=False),
        place_given=c.summary_type == "cls_index",
    )


DOUBLE_HEADS = TaskHead(
    "DoubleHeadsModel",
    _double_heads,
    (Same("lm_head", "tokens.out"), Same("multiple_choice_head.summary", "choices.project")),
)
