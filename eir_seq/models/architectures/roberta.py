"""Roberta (https://arxiv.org/abs/1907.11692)."""

from __future__ import annotations

from functools import partial

from eir_seq.models.architecture import Architecture, Task
from eir_seq.models.architectures.bert import bert_initialization, bert_plan, bert_rows
from eir_seq.models.blocks.norms import LayerNorm
from eir_seq.models.blocks.positions import CountReal
from eir_seq.models.checkpoint.keymap import Same
from eir_seq.models.configs.bert import EncoderConfig, RobertaConfig
from eir_seq.models.frames.stack import StackPlan
from eir_seq.models.heads.language_model import LanguageModel, Predicts
from eir_seq.models.heads.sequence_classification import SequenceClassification


def roberta_plan(c: RobertaConfig, *, pooler: bool = True) -> StackPlan:
    """Bert with positions counted over real tokens."""
    assert c.pad_token_id is not None
    return bert_plan(c, pooler=pooler, numbering=CountReal(c.pad_token_id))


def without_pooler(c: RobertaConfig) -> StackPlan:
    """The body of every published head but multiple choice."""
    return roberta_plan(c, pooler=False)


def roberta_classification(c: RobertaConfig) -> SequenceClassification.Config:
    """Hidden layer with tanh and linear layer on the first token's state."""
    dropout = c.hidden_dropout_prob if c.classifier_dropout is None else c.classifier_dropout
    return SequenceClassification.Config(
        reads="first",
        hidden_size=c.hidden_size,
        num_labels=c.num_labels,
        problem_type=c.problem_type,
        dense="tanh",
        dense_dropout=dropout,
        dropout=dropout,
    )


def roberta_language_model(c: EncoderConfig, predicts: Predicts) -> LanguageModel.Config:
    """Hidden layer, gelu, norm, then scores by the token table with a bias."""
    return LanguageModel.Config(
        predicts=predicts,
        hidden_size=c.hidden_size,
        vocab_size=c.vocab_size,
        tied=c.tie_word_embeddings,
        dense="gelu",
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        bias=True,
    )


ROBERTA_CLASSIFICATION_ROWS = (Same("classifier.dense", "dense"), Same("classifier.out_proj", "out"))
ROBERTA_LANGUAGE_MODEL_ROWS = (
    Same("lm_head.dense", "dense"),
    Same("lm_head.layer_norm", "norm"),
    Same("lm_head.decoder.weight", "out.weight"),
    Same("lm_head.bias", "bias"),
)
ROBERTA_IGNORED = (r"^lm_head\.decoder\.bias$",)

ROBERTA = Architecture(
    tasks={
        "base": Task(published="RobertaModel", plan=roberta_plan, body_rows=bert_rows),
        "masked-lm": Task(
            published="RobertaForMaskedLM",
            plan=without_pooler,
            body_rows=bert_rows,
            prefix="roberta",
            head=partial(roberta_language_model, predicts="hidden"),
            head_rows=ROBERTA_LANGUAGE_MODEL_ROWS,
        ),
        "causal-lm": Task(
            published="RobertaForCausalLM",
            plan=without_pooler,
            body_rows=bert_rows,
            prefix="roberta",
            head=partial(roberta_language_model, predicts="next"),
            head_rows=ROBERTA_LANGUAGE_MODEL_ROWS,
        ),
        "sequence-classification": Task(
            published="RobertaForSequenceClassification",
            plan=without_pooler,
            body_rows=bert_rows,
            prefix="roberta",
            head=roberta_classification,
            head_rows=ROBERTA_CLASSIFICATION_ROWS,
        ),
    },
    prefixes=("roberta",),
    initialization=bert_initialization,
    ignored=ROBERTA_IGNORED,
)
