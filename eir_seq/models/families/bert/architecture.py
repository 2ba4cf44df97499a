"""Bert (https://arxiv.org/abs/1810.04805)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from eir_seq.models.architecture import Architecture, Plan, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import FirstTokenPooler, StackPlan
from eir_seq.models.checkpoint.keymap import Alias, Row, Same, Unused, for_layers
from eir_seq.models.families.bert.options import BertConfig, EncoderWithoutSegments, WithTables
from eir_seq.models.heads.language_model import LanguageModel, Predicts
from eir_seq.models.heads.pretraining import PreTraining
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.heads.spans_and_tokens import MultipleChoice, QuestionAnswering, TokenClassification
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.build import Part
from eir_seq.models.layers.embeddings import Embeddings, FeatureEmbedding
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import LearnedPositions
from eir_seq.models.layers.positions.position_ids import ArangePositionIds, PositionIds
from eir_seq.models.layers.positions.relative import LearnedDistances
from eir_seq.models.layers.residual import Layer, LayerPlan, PostNorm


def bert_attention(c: EncoderWithoutSegments, *, cross: bool = False) -> Attention.Config:
    """Self-attention or cross-attention; positions may enter as learned distances."""
    distances, kind = None, getattr(c, "position_embedding_type", "absolute")
    if kind != "absolute" and not cross:
        distances = LearnedDistances.Config(
            max_positions=c.max_position_embeddings,
            head_size=c.hidden_size // c.num_attention_heads,
            with_key=kind == "relative_key_query",
        )
    return Attention.Config(
        hidden_size=c.hidden_size,
        num_heads=c.num_attention_heads,
        memory_size=c.hidden_size if cross else None,
        causal=getattr(c, "is_decoder", False) and not cross,
        dropout=c.attention_probs_dropout_prob,
        distances=distances,
    )


def bert_embeddings(
    c: WithTables,
    numbering: PositionIds = ArangePositionIds(),
    positions: bool = True,
) -> Embeddings.Config:
    """Vectors of tokens, positions (unless distances stand for them) and segments, with a norm."""
    table = LearnedPositions.Config(count=c.max_position_embeddings, numbering=numbering)
    absolute = positions and getattr(c, "position_embedding_type", "absolute") == "absolute"
    return Embeddings.Config(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        positions=table if absolute else None,
        num_segments=getattr(c, "type_vocab_size", 0),
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        dropout=c.hidden_dropout_prob,
        padding_id=c.pad_token_id,
    )


def bert_layer(c: EncoderWithoutSegments, residual: type[Layer] = PostNorm, mixer: Part | None = None) -> LayerPlan:
    """Attention, over other states too if asked, and a feed-forward block."""
    return LayerPlan(
        residual=residual,
        hidden_size=c.hidden_size,
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        mixer=mixer or bert_attention(c),
        cross=bert_attention(c, cross=True) if getattr(c, "add_cross_attention", False) else None,
        mlp=Mlp.Config(hidden_size=c.hidden_size, inner_size=c.intermediate_size, activation=c.hidden_act),
        dropout=c.hidden_dropout_prob,
    )


def bert_plan(
    c: EncoderWithoutSegments,
    *,
    pooler: bool = True,
    numbering: PositionIds = ArangePositionIds(),
    residual: type[Layer] = PostNorm,
    positions: bool = True,
    mixer: Part | None = None,
    embedding_size: int | None = None,
    further: FeatureEmbedding | None = None,
) -> StackPlan:
    """Embeddings with a norm, layers with norms behind the residual sums, a pooler of the first token.

    `positions`: whether there is a table of them; `mixer`: instead of bert's; `embedding_size`: of narrower tables;
    `further`: vectors of other inputs.
    """
    embeddings = bert_embeddings(c, numbering, positions)
    return StackPlan(
        embeddings=replace(embeddings, embedding_size=embedding_size, further=further),
        layers=(bert_layer(c, residual, mixer),) * c.num_hidden_layers,
        pooler=FirstTokenPooler.Config(c.hidden_size) if pooler else None,
        cached=getattr(c, "is_decoder", False) and getattr(c, "use_cache", False),
    )


LAYER, OURS = "encoder.layer.{i}.", "layers.{i}."

BERT_LAYER_ROWS: tuple[Row, ...] = (
    Same(LAYER + "attention.self.query", OURS + "mixer.query"),
    Same(LAYER + "attention.self.key", OURS + "mixer.key"),
    Same(LAYER + "attention.self.value", OURS + "mixer.value"),
    Same(LAYER + "attention.self.distance_embedding", OURS + "mixer.distances.table"),
    Same(LAYER + "attention.output.dense", OURS + "mixer.out"),
    Same(LAYER + "attention.output.LayerNorm", OURS + "mixer_norm"),
    Same(LAYER + "crossattention.self.query", OURS + "cross.query"),
    Same(LAYER + "crossattention.self.key", OURS + "cross.key"),
    Same(LAYER + "crossattention.self.value", OURS + "cross.value"),
    Same(LAYER + "crossattention.output.dense", OURS + "cross.out"),
    Same(LAYER + "crossattention.output.LayerNorm", OURS + "cross_norm"),
    Same(LAYER + "intermediate.dense", OURS + "mlp.up"),
    Same(LAYER + "output.dense", OURS + "mlp.down"),
    Same(LAYER + "output.LayerNorm", OURS + "mlp_norm"),
)


def bert_rows(c: WithTables) -> Iterator[Row]:
    """The key table of the body."""
    yield Same("embeddings.word_embeddings", "embeddings.tokens")
    if getattr(c, "position_embedding_type", "absolute") == "absolute":
        yield Same("embeddings.position_embeddings", "embeddings.positions")
    else:
        width = getattr(c, "embedding_size", None) or c.hidden_size
        yield Unused("embeddings.position_embeddings.weight", (c.max_position_embeddings, width))
    yield Same("embeddings.token_type_embeddings", "embeddings.segments")
    yield Same("embeddings.LayerNorm", "embeddings.norm")
    yield from for_layers(c.num_hidden_layers, *BERT_LAYER_ROWS)
    yield Same("pooler.dense", "pooler.dense")


def bert_classification(c: EncoderWithoutSegments) -> SequenceClassification.Config:
    """A linear layer on the pooler's output."""
    return SequenceClassification.Config.of(c, reads="pooler", dropout=head_dropout(c))


def bert_language_model(c: EncoderWithoutSegments, predicts: Predicts) -> LanguageModel.Config:
    """Hidden layer, activation, norm, then scores by the token table with a bias."""
    return LanguageModel.Config.of(
        c, predicts=predicts, dense=c.hidden_act, norm=LayerNorm.Config(eps=c.layer_norm_eps), bias=True
    )


BERT_LANGUAGE_MODEL_ROWS: tuple[Same, ...] = (
    Same("cls.predictions.transform.dense", "dense"),
    Same("cls.predictions.transform.LayerNorm", "norm"),
    Same("cls.predictions.decoder.weight", "out.weight"),
    Same("cls.predictions.bias", "bias"),
    Alias("cls.predictions.decoder.bias", "bias"),
)


def pretraining_rows(tokens: tuple[Same, ...]) -> tuple[Same, ...]:
    """The key table of `PreTraining`, from that of its head of hidden tokens."""
    return *(replace(row, ours=f"tokens.{row.ours}") for row in tokens), Same("cls.seq_relationship", "pairs.out")


BERT_PRETRAINING_ROWS = pretraining_rows(BERT_LANGUAGE_MODEL_ROWS)


next_sentence = partial(
    SequenceClassification.Config.of, reads="pooler", num_labels=2, problem_type="single_label_classification"
)
"""Whether the second text follows the first, by the pooler's output."""


def bert_pretraining(c: BertConfig) -> PreTraining.Config:
    """Hidden tokens and the order of texts, learnt together."""
    return PreTraining.Config(tokens=bert_language_model(c, "hidden"), pairs=next_sentence(c))


def without_pooler(c: BertConfig) -> StackPlan:
    """The body of heads that read token states."""
    return bert_plan(c, pooler=False)


def bert_initialization(c: EncoderWithoutSegments) -> Initialization:
    """Normal weights of one standard deviation."""
    return Initialization(c.initializer_range)


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


def bert_like(
    family: str,
    prefix: str,
    plan: Callable[..., Plan],
    rows: Callable[[Any], Iterable[Row]] = bert_rows,
    *,
    own: Mapping[str, TaskHead | None] = MappingProxyType({}),
    language_model: Callable[..., LanguageModel.Config] = bert_language_model,
    language_model_rows: tuple[Same, ...] = BERT_LANGUAGE_MODEL_ROWS,
) -> Architecture:
    """An architecture with bert's heads, unless it has them in a form of its `own` (None: not at all).

    `plan`: options and ``pooler`` -> body; `family`, `prefix`: see `declare_tasks`.
    """
    plain = partial(plan, pooler=False)
    heads: dict[str, TaskHead | None] = {
        "masked-lm": TaskHead("ForMaskedLM", partial(language_model, predicts="hidden"), language_model_rows, plain),
        "causal-lm": TaskHead("ForCausalLM", partial(language_model, predicts="next"), language_model_rows, plain),
        "next-sentence": TaskHead("ForNextSentencePrediction", next_sentence, (Same("cls.seq_relationship", "out"),)),
        "pretraining": TaskHead("ForPreTraining", bert_pretraining, pretraining_rows(language_model_rows)),
        **bert_heads(bert_classification, plain, (Same("classifier", "out"),), choice_plan=plan),
        **own,
    }
    present = {task: head for task, head in heads.items() if head is not None}
    return Architecture(
        tasks=declare_tasks(family, prefix, plan, rows, present),
        prefixes=(prefix,),
        initialization=bert_initialization,
    )


BERT = bert_like(
    "Bert",
    "bert",
    bert_plan,
    own={
        "causal-lm": TaskHead(
            "LMHeadModel", partial(bert_language_model, predicts="next"), BERT_LANGUAGE_MODEL_ROWS, without_pooler
        )
    },
)
