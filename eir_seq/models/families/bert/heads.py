"""Heads of bert, and of encoders like it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from eir_seq.models.architecture import Plan, TaskHead
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.bert.options import BertConfig, EncoderWithoutSegments
from eir_seq.models.heads.language_model import LanguageModel, Predicts
from eir_seq.models.heads.pretraining import PreTraining
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.heads.spans_and_tokens import MultipleChoice, QuestionAnswering, TokenClassification
from eir_seq.models.layers.norms.layer_norm import LayerNorm


def bert_classification(c: EncoderWithoutSegments) -> SequenceClassification.Config:
    """A linear layer on the pooler's output."""
    return SequenceClassification.Config.of(c, reads="pooler", dropout=head_dropout(c))


def bert_language_model(c: EncoderWithoutSegments, predicts: Predicts) -> LanguageModel.Config:
    """Hidden layer, activation, norm, then scores by the token table with a bias."""
    return LanguageModel.Config.of(
        c, predicts=predicts, dense=c.hidden_act, norm=LayerNorm.Config(eps=c.layer_norm_eps), bias=True
    )


next_sentence = partial(
    SequenceClassification.Config.of, reads="pooler", num_labels=2, problem_type="single_label_classification"
)
"""Whether the second text follows the first, by the pooler's output."""


def bert_pretraining(c: BertConfig) -> PreTraining.Config:
    """Hidden tokens and the order of texts, learned together."""
    return PreTraining.Config(tokens=bert_language_model(c, "hidden"), pairs=next_sentence(c))


def bert_heads(
    classification: Callable[[Any], SequenceClassification.Config],
    plain: Callable[[Any], Plan],
    rows: tuple[Row, ...],
    *,
    choice_plan: Callable[[Any], Plan],
    choice: Callable[[Any], SequenceClassification.Config] | None = None,
    choice_rows: tuple[Row, ...] = (Same("classifier", "one.out"),),
) -> dict[str, TaskHead]:
    """The heads that every encoder of this kind has, on top of its own way to classify a text.

    `plain`: the body without pooler; `choice_plan`, `choice`: body and scoring of a choice.
    """
    return {
        "sequence-classification": TaskHead("ForSequenceClassification", classification, rows),
        "token-classification": TaskHead(
            "ForTokenClassification", token_classification, (Same("classifier", "out"),), plan=plain
        ),
        "question-answering": TaskHead(
            "ForQuestionAnswering", QuestionAnswering.Config.of, (Same("qa_outputs", "out"),), plan=plain
        ),
        "multiple-choice": TaskHead(
            "ForMultipleChoice",
            partial(MultipleChoice.Config.by, one=choice or classification),
            choice_rows,
            plan=choice_plan,
        ),
    }


def head_dropout(c: EncoderWithoutSegments) -> float:
    """Dropout of a head: `classifier_dropout` (or `..._prob`), or that of the layers where it is absent."""
    own: float | None = getattr(c, "classifier_dropout", getattr(c, "classifier_dropout_prob", None))
    return c.hidden_dropout_prob if own is None else own


def token_classification(c: EncoderWithoutSegments) -> TokenClassification.Config:
    """A linear layer on every token's state."""
    return TokenClassification.Config.of(c, dropout=head_dropout(c))
