"""Roberta (https://arxiv.org/abs/1907.11692), and architectures that differ from it in names only.

Sources: camembert https://arxiv.org/abs/1911.03894, xlm-roberta https://arxiv.org/abs/1911.02116, data2vec-text
https://arxiv.org/abs/2202.03555.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from eir_seq.models.architecture import Architecture, Plan, TaskHead
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Alias, Row, Same
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.heads import bert_heads, head_dropout
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.options import EncoderWithoutSegments
from eir_seq.models.families.bert.plan import bert_plan
from eir_seq.models.families.roberta.options import RobertaConfig
from eir_seq.models.heads.language_model import LanguageModel, Predicts
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.position_ids import InputPositionIds


def roberta_plan(c: RobertaConfig, *, pooler: bool = True) -> StackPlan:
    """Bert with positions counted over real tokens."""
    assert c.pad_token_id is not None
    return bert_plan(c, pooler=pooler, numbering=InputPositionIds(c.pad_token_id))


def roberta_classification(c: EncoderWithoutSegments) -> SequenceClassification.Config:
    """Hidden layer with tanh and linear layer on the first token's state."""
    dropout = head_dropout(c)
    return SequenceClassification.Config.of(c, reads="first", dense="tanh", dense_dropout=dropout, dropout=dropout)


def roberta_language_model(c: EncoderWithoutSegments, predicts: Predicts) -> LanguageModel.Config:
    """Hidden layer, gelu, norm, then scores by the token table with a bias."""
    return LanguageModel.Config.of(
        c, predicts=predicts, dense="gelu", norm=LayerNorm.Config(eps=c.layer_norm_eps), bias=True
    )


ROBERTA_CLASSIFICATION_ROWS = (Same("classifier.dense", "dense"), Same("classifier.out_proj", "out"))

ROBERTA_LANGUAGE_MODEL_ROWS = (
    Same("lm_head.dense", "dense"),
    Same("lm_head.layer_norm", "norm"),
    Same("lm_head.decoder.weight", "out.weight"),
    Alias("lm_head.decoder.bias", "bias"),
    Same("lm_head.bias", "bias"),
)


def roberta_heads(
    classification: Callable[[Any], SequenceClassification.Config],
    plain: Callable[[Any], Plan],
    pooled: Callable[[Any], Plan],
) -> dict[str, TaskHead]:
    """Bert's heads, but a text is classified by its first token's state; only choices read the pooler."""
    heads = bert_heads(classification, plain, ROBERTA_CLASSIFICATION_ROWS, choice_plan=pooled, choice=roberta_choice)
    return {**heads, "sequence-classification": replace(heads["sequence-classification"], plan=plain)}


def roberta_choice(c: EncoderWithoutSegments) -> SequenceClassification.Config:
    """A linear layer on the pooler's output."""
    return SequenceClassification.Config.of(c, reads="pooler", num_labels=1, dropout=c.hidden_dropout_prob)


def roberta_like(
    family: str, prefix: str, plan: Callable[..., Plan] = roberta_plan, rows: Callable[[Any], Iterable[Row]] = bert_rows
) -> Architecture:
    """An architecture with roberta's heads; `plan`: options and ``pooler`` -> body."""
    plain = partial(plan, pooler=False)
    own = {"next-sentence": None, "pretraining": None, **roberta_heads(roberta_classification, plain, plan)}
    head, rows_of_head = roberta_language_model, ROBERTA_LANGUAGE_MODEL_ROWS
    return bert_like(family, prefix, plan, rows, own=own, language_model=head, language_model_rows=rows_of_head)


ROBERTA = roberta_like("Roberta", "roberta")

CAMEMBERT = roberta_like("Camembert", "roberta")

XLM_ROBERTA = roberta_like("XLMRoberta", "roberta")

DATA2VEC_TEXT = roberta_like("Data2VecText", "data2vec_text")
