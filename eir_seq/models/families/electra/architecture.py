"""Electra (https://openreview.net/pdf?id=r1xMH1BtvB)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.architecture import TaskHead
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.heads import bert_language_model, head_dropout
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.plan import bert_plan
from eir_seq.models.families.electra.options import ElectraConfig
from eir_seq.models.heads.base import Head, Inputs, Targets
from eir_seq.models.heads.language_model import LanguageModel, Predicts
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.heads.spans_and_tokens import MultipleChoice
from eir_seq.models.heads.summary import SummaryClassification
from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.feed_forward.activations import activation
from eir_seq.models.layers.linear import Linear
from eir_seq.models.output import ModelOutput


def electra_plan(c: ElectraConfig, *, pooler: bool = False) -> StackPlan:  # noqa: ARG001
    """Bert with embedding tables of another width and no pooler."""
    return bert_plan(c, pooler=False, embedding_size=c.embedding_size)


def electra_rows(c: ElectraConfig) -> Iterator[Row]:
    """Bert's key map and the projection."""
    yield from bert_rows(c)
    yield Same("embeddings_project", "embeddings.project")


class ReplacedTokens(Head):
    """One score per token: that it was put in place of the text's own (section 2)."""

    targets = ("labels", "attention_mask")

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`dense`: activation of the hidden layer."""

        hidden_size: int
        dense: str

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.activation = activation(config.dense)
        self.out = Linear(config.hidden_size, 1)

    def prepare(self, inputs: Inputs, targets: Targets) -> Inputs:
        """The body needs the mask as well as the loss."""
        return {**inputs, "attention_mask": targets.get("attention_mask")}

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:  # noqa: ARG002
        """`logits`: (batch, length)."""
        return {"logits": self.out(self.activation(self.dense(output.last_hidden_state))).squeeze(-1)}

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """Mean binary cross-entropy over real tokens; 1: the token was put there."""
        if "labels" not in targets:
            return None
        logits, labels, mask = predictions["logits"], targets["labels"], targets.get("attention_mask")
        if mask is not None:
            logits, labels = logits[mask.bool()], labels[mask.bool()]
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def electra_classification(c: ElectraConfig) -> SequenceClassification.Config:
    """Hidden layer with gelu and linear layer on the first token's state."""
    return SequenceClassification.Config.of(
        c, reads="first", dense="gelu", dense_dropout=head_dropout(c), dropout=head_dropout(c)
    )


def electra_language_model(c: ElectraConfig, predicts: Predicts) -> LanguageModel.Config:
    """Hidden layer as wide as the tables, gelu, norm, then scores by the token table with a bias."""
    return replace(bert_language_model(c, predicts), embedding_size=c.embedding_size, dense="gelu")


ELECTRA = replace(
    bert_like(
        "Electra",
        "electra",
        electra_plan,
        electra_rows,
        own={
            "next-sentence": None,
            "pretraining": TaskHead(
                "ForPreTraining",
                lambda c: ReplacedTokens.Config(hidden_size=c.hidden_size, dense=c.hidden_act),
                (
                    Same("discriminator_predictions.dense", "dense"),
                    Same("discriminator_predictions.dense_prediction", "out"),
                ),
            ),
            "sequence-classification": TaskHead(
                "ForSequenceClassification",
                electra_classification,
                (Same("classifier.dense", "dense"), Same("classifier.out_proj", "out")),
            ),
            "multiple-choice": TaskHead(
                "ForMultipleChoice",
                partial(MultipleChoice.Config.by, one=SummaryClassification.Config.by_options),
                (Same("sequence_summary.summary", "one.project"), Same("classifier", "one.out")),
            ),
        },
        language_model=electra_language_model,
        language_model_rows=(
            Same("generator_predictions.dense", "dense"),
            Same("generator_predictions.LayerNorm", "norm"),
            Same("generator_lm_head.weight", "out.weight"),
            Same("generator_lm_head.bias", "bias"),
        ),
    ),
    ignored=(),
)
