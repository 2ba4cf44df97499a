"""Xlm (https://arxiv.org/abs/1901.07291) and flaubert (https://arxiv.org/abs/1912.05372)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from eir_seq.models.architecture import Architecture, Decoding, HeadRows, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, Tree, for_layers
from eir_seq.models.families.xlm.adaptive_softmax import AdaptiveSoftmax
from eir_seq.models.families.xlm.layers import BlankingPlan, BlankingPostNorm, BlankingPreNorm, LanguageEmbedding
from eir_seq.models.families.xlm.options import FlaubertConfig, XLMConfig
from eir_seq.models.families.xlnet.architecture import ANSWER_SEARCH_ROWS
from eir_seq.models.heads.answer_search import AnswerSearch
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.spans_and_tokens import MultipleChoice, QuestionAnswering, TokenClassification
from eir_seq.models.heads.summary import SummaryClassification
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import LearnedPositions, SinusoidalPositions
from eir_seq.models.layers.residual import Layer


def xlm_plan(c: XLMConfig, *, residual: type[Layer] = BlankingPostNorm, skipped: float = 0.0) -> StackPlan:
    """Bert's layers with languages instead of segments; a causal text sees its padding, which then has to stay in."""
    table = SinusoidalPositions.Config if c.sinusoidal_embeddings else LearnedPositions.Config
    norm = LayerNorm.Config(eps=c.layer_norm_eps)
    layer = BlankingPlan(
        residual=residual,
        hidden_size=c.emb_dim,
        norm=norm,
        mixer=Attention.Config(
            hidden_size=c.emb_dim, num_heads=c.n_heads, causal=c.causal, dropout=c.attention_dropout
        ),
        mlp=Mlp.Config(
            hidden_size=c.emb_dim, inner_size=4 * c.emb_dim, activation="gelu" if c.gelu_activation else "relu"
        ),
        dropout=c.dropout,
        sees_padding=c.causal,
        skipped=skipped,
    )
    return StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size,
            hidden_size=c.emb_dim,
            positions=table(count=c.max_position_embeddings),
            segments_are_tokens=True,
            further=LanguageEmbedding.Config(c.n_langs) if c.tells_languages else None,
            norm=norm,
            dropout=c.dropout,
            padding_id=c.pad_index,
        ),
        layers=(layer,) * c.n_layers,
        packable=not c.causal,
        blanks_padding=True,
    )


def flaubert_plan(c: FlaubertConfig) -> StackPlan:
    """Xlm, optionally pre-norm, with LayerDrop."""
    return xlm_plan(c, residual=BlankingPreNorm if c.pre_norm else BlankingPostNorm, skipped=c.layerdrop)


def xlm_rows(c: XLMConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield Same("embeddings", "embeddings.tokens")
    yield Same("position_embeddings", "embeddings.positions")
    yield Same("lang_embeddings", "embeddings.further")
    yield Same("layer_norm_emb", "embeddings.norm")
    published, native = "attentions.{i}.", "layers.{i}."
    yield from for_layers(
        c.n_layers,
        Same(published + "q_lin", native + "mixer.query"),
        Same(published + "k_lin", native + "mixer.key"),
        Same(published + "v_lin", native + "mixer.value"),
        Same(published + "out_lin", native + "mixer.out"),
        Same("layer_norm1.{i}", native + "mixer_norm"),
        Same("ffns.{i}.lin1", native + "mlp.up"),
        Same("ffns.{i}.lin2", native + "mlp.down"),
        Same("layer_norm2.{i}", native + "mlp_norm"),
    )


def with_mask(c: XLMConfig, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs with a mask, where the caller gave `lengths` (batch,) instead, or only ids with padding after the texts.

    Raises:
        ValueError: both of mask and lengths, lengths beyond the texts, or languages that the model does not tell.
    """
    inputs = dict(inputs)
    lengths = inputs.pop("lengths", None)
    ids: Any = inputs.get("input_ids")
    vectors: Any = inputs.get("inputs_embeds")
    if inputs.get("langs") is not None and not c.tells_languages:
        raise ValueError("langs: this model has no vectors of languages (n_langs above 1, use_lang_emb: true)")
    if inputs.get("attention_mask") is not None:
        if lengths is not None:
            raise ValueError("give attention_mask or lengths, not both")
        return inputs
    if (ids is None) == (vectors is None) or (ids is None and lengths is None):
        return inputs
    longest = ids.shape[-1] if ids is not None else vectors.shape[-2]
    if lengths is None:
        lengths = (ids != c.pad_index).sum(-1)
    elif not torch.compiler.is_compiling() and bool((lengths > longest).any()):
        raise ValueError(f"lengths: {int(lengths.max())} is more than the {longest} places of the texts")
    inputs["attention_mask"] = torch.arange(longest, device=lengths.device) < lengths[..., None]
    return inputs


def _predict_next(c: XLMConfig, inputs: dict[str, Any], _: None) -> dict[str, Any]:
    """Inputs that predict the place after the text, where the mask token is."""
    hidden = c.mask_index if c.mask_token_id is None else c.mask_token_id
    given = {name: x for name, x in inputs.items() if name not in ("token_type_ids", "use_cache")}
    given["input_ids"] = ids = F.pad(inputs["input_ids"], (0, 1), value=hidden)
    if c.tells_languages and "langs" not in inputs:
        given["langs"] = torch.full_like(ids, c.lang_id)
    return given


def _language_model(c: XLMConfig) -> LanguageModel.Config | AdaptiveSoftmax.Config:
    if c.asm:
        cutoffs = tuple(c.asm_cutoffs)
        return AdaptiveSoftmax.Config(
            hidden_size=c.emb_dim, vocab_size=c.vocab_size, cutoffs=cutoffs, narrowing=c.asm_div_value
        )
    return LanguageModel.Config.of(c, predicts="hidden", bias=True)


def _language_model_rows(c: XLMConfig) -> tuple[Row, ...]:
    if c.asm:
        return (Tree("pred_layer.proj", "out"),)
    return (Same("pred_layer.proj.weight", "out.weight"), Same("pred_layer.proj.bias", "bias"))


def _classification(c: XLMConfig, *, classify: bool = False) -> SummaryClassification.Config:
    return SummaryClassification.Config.by_options(c, project=c.num_labels, classify=classify)


SUMMARY_ROW = Same("sequence_summary.summary", "project")

SEARCH_ROWS: HeadRows = tuple(Same(f"qa_outputs.{row.published}", row.native) for row in ANSWER_SEARCH_ROWS)

HEADS = {
    "masked-lm": TaskHead("WithLMHeadModel", _language_model, _language_model_rows, decoding=Decoding(_predict_next)),
    "sequence-classification": TaskHead("ForSequenceClassification", _classification, (SUMMARY_ROW,)),
    "token-classification": TaskHead(
        "ForTokenClassification",
        lambda c: TokenClassification.Config.of(c, dropout=c.dropout),
        (Same("classifier", "out"),),
    ),
    "question-answering": TaskHead(
        "ForQuestionAnsweringSimple", QuestionAnswering.Config.of, (Same("qa_outputs", "out"),)
    ),
    "answer-search": TaskHead("ForQuestionAnswering", AnswerSearch.Config.of, SEARCH_ROWS),
    "multiple-choice": TaskHead(
        "ForMultipleChoice",
        partial(MultipleChoice.Config.by, one=partial(_classification, classify=True)),
        (Same(SUMMARY_ROW.published, f"one.{SUMMARY_ROW.native}"), Same("logits_proj", "one.out")),
    ),
}


def _architecture(family: str, plan: Any) -> Architecture:
    return Architecture(
        tasks=declare_tasks(family, "transformer", plan, xlm_rows, HEADS, prepare=with_mask),
        prefixes=("transformer",),
        initialization=lambda c: Initialization(c.init_std, {"body.embeddings.*": c.embed_init_std}),
    )


XLM = _architecture("XLM", xlm_plan)

FLAUBERT = _architecture("Flaubert", flaubert_plan)
