"""Deberta (https://arxiv.org/abs/2006.03654): contents and distances are compared apart from each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.architecture import Architecture, Plan, TaskHead
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Fused, Row, Same, for_layers
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.heads import bert_language_model
from eir_seq.models.families.bert.keymap import BERT_LANGUAGE_MODEL_ROWS, LAYER, NATIVE, bert_rows
from eir_seq.models.families.bert.plan import bert_plan
from eir_seq.models.families.deberta.options import DebertaConfig, DisentangledConfig
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.layers.attention.disentangled import DisentangledAttention, Distances, DistanceTable, between_real
from eir_seq.models.layers.attention.scorer import EagerScorer, Pairs
from eir_seq.models.layers.build import Part
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm

# ------------------------------------------------------------------------------------------- shared by versions


def disentangled_plan(
    c: DisentangledConfig,
    mixer: Part,
    distances: Distances | None,
    norm: LayerNorm.Config | None = None,
    *,
    pooler: bool,
) -> StackPlan:
    """Bert, whose layers share a table of distances; `norm`: on its vectors."""
    table = None if distances is None else DistanceTable.Config(rows=2 * distances.span, size=c.hidden_size, norm=norm)
    plan = bert_plan(c, pooler=pooler, positions=c.position_biased_input, mixer=mixer)
    return replace(plan, position_table=table, blanks_padding=True)


def disentangled_rows(c: DisentangledConfig) -> Iterator[Row]:
    """What both versions name alike."""
    yield Same("encoder.rel_embeddings", "position_table.vectors")
    yield from bert_rows(c)


def score_scale(c: DisentangledConfig, comparisons: int) -> float:
    """One over the root of the head size times the number of terms of a score."""
    return (c.hidden_size // c.num_attention_heads * (1 + comparisons)) ** -0.5


class _Classification(SequenceClassification):
    """Without a `problem_type`, the loss leaves out negative labels and takes (batch, num_labels) as soft classes."""

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Squared error of one value, cross-entropy of classes or of shares of classes, or by `problem_type`."""
        if self.config.problem_type is not None or self.config.num_labels == 1:
            return super().label_loss(logits, labels)
        if labels.dim() > 1 and labels.shape[-1] > 1:
            return -(logits.log_softmax(-1) * labels).sum(-1).mean()
        labels = labels.view(-1).long()
        known = labels >= 0
        return F.cross_entropy(logits.float()[known], labels[known]) if bool(known.any()) else logits.sum() * 0.0


def deberta_classification(c: DisentangledConfig) -> SequenceClassification.Config:
    """Hidden layer and linear layer on the first token's state."""
    return _Classification.Config.of(
        c,
        reads="first",
        dense=c.pooler_hidden_act,
        dense_dropout=c.pooler_dropout,
        dropout=c.hidden_dropout_prob if c.cls_dropout is None else c.cls_dropout,
    )


IGNORED = (r"^mask_predictions\.", r"embeddings\.position")
"""A head of pretraining, and tables that models without position_biased_input carry along."""


def _language_model(c: DisentangledConfig) -> LanguageModel.Config:
    head = bert_language_model(c, "hidden")
    return head if c.legacy else replace(head, tied=True)


def _language_model_rows(c: DisentangledConfig) -> tuple[Row, ...]:
    if c.legacy:
        return BERT_LANGUAGE_MODEL_ROWS
    names = (("dense", "dense"), ("LayerNorm", "norm"), ("bias", "bias"))
    return tuple(Same(f"lm_predictions.lm_head.{published}", native) for published, native in names)


def disentangled(
    family: str, plan: Callable[..., Plan], rows: Callable[[Any], Iterable[Row]], *, choice: TaskHead | None
) -> Architecture:
    """The heads of both versions; `choice`: that of multiple choice."""
    own = {
        "masked-lm": TaskHead("ForMaskedLM", _language_model, _language_model_rows),
        "causal-lm": None,
        "next-sentence": None,
        "pretraining": None,
        "sequence-classification": TaskHead(
            "ForSequenceClassification",
            deberta_classification,
            (Same("pooler.dense", "dense"), Same("classifier", "out")),
        ),
        "multiple-choice": choice,
    }
    return replace(bert_like(family, "deberta", plan, rows, own=own), ignored=IGNORED)


# ------------------------------------------------------------------------------------------------- version 1


@dataclass(frozen=True)
class _TalkingScorer(EagerScorer):
    """Scores and weights are mixed over the heads, by linear layers of the attention."""

    def attend(self, attention: Any, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        return self.weights(attention, query, key, pairs) @ value

    def weights(self, attention: Any, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        mask = between_real(pairs.mask)
        scores = self.scores(attention, query, key)
        scores = _over_heads(attention.mix_scores, scores if pairs.bias is None else scores + pairs.bias)
        look = pairs._replace(mask=mask).visible(query, key)
        scores = scores if look is None else scores.masked_fill(~look, torch.finfo(scores.dtype).min)
        return _over_heads(attention.mix_weights, attention.weights_dropout(scores.softmax(-1)))


def _over_heads(mix: nn.Module, x: Tensor) -> Tensor:
    mixed: Tensor = mix(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return mixed


class _TalkingHeads(DisentangledAttention):
    """Talking heads (https://arxiv.org/abs/2003.02436)."""

    def __init__(self, config: DisentangledAttention.Config) -> None:
        super().__init__(replace(config, dropout=0.0, scorer=_TalkingScorer()))
        self.weights_dropout = Dropout(config.dropout)
        self.mix_scores = Linear(config.num_heads, config.num_heads, bias=False)
        self.mix_weights = Linear(config.num_heads, config.num_heads, bias=False)


def deberta_plan(c: DebertaConfig, *, pooler: bool = False) -> StackPlan:
    """Keys have no bias; every distance has its own row."""
    distances = Distances(c.max_distance) if c.relative_attention else None
    mixer = (_TalkingHeads if c.talking_head else DisentangledAttention).Config(
        hidden_size=c.hidden_size,
        num_heads=c.num_attention_heads,
        dropout=c.attention_probs_dropout_prob,
        scale=score_scale(c, len(c.compared)),
        distances_of=distances,
        by_query="c2p" in c.compared,
        by_key="p2c" in c.compared,
        position_bias=False,
        key_bias=False,
        position_dropout=c.hidden_dropout_prob,
    )
    return disentangled_plan(c, mixer, distances, pooler=pooler)


def deberta_rows(c: DebertaConfig) -> Iterator[Row]:
    """The key map of the body."""
    published, mixer = LAYER + "attention.self.", NATIVE + "mixer."
    fused = tuple(mixer + part for part in ("query", "key", "value"))
    yield from for_layers(
        c.num_hidden_layers,
        Same(published + "q_bias", mixer + "query.bias"),
        Same(published + "v_bias", mixer + "value.bias"),
        Fused(published + "in_proj", fused, groups=c.num_attention_heads),
        Same(published + "pos_proj", mixer + "position_key"),
        Same(published + "pos_q_proj", mixer + "position_query"),
        Same(published + "head_logits_proj", mixer + "mix_scores"),
        Same(published + "head_weights_proj", mixer + "mix_weights"),
    )
    yield from disentangled_rows(c)


DEBERTA = disentangled("Deberta", deberta_plan, deberta_rows, choice=None)
