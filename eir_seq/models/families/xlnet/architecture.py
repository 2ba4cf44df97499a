"""Xlnet (https://arxiv.org/abs/1906.08237)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.architecture import Architecture, Decoding, TaskHead, declare_tasks
from eir_seq.models.checkpoint.keymap import Row, Same, Tensors, for_layers
from eir_seq.models.families.xlnet.attention import RelativeAttention
from eir_seq.models.families.xlnet.options import XLNetConfig
from eir_seq.models.families.xlnet.two_streams import TwoStreamsPlan
from eir_seq.models.heads.answer_search import AnswerSearch
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.spans_and_tokens import MultipleChoice, QuestionAnswering, TokenClassification
from eir_seq.models.heads.summary import SummaryClassification
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.residual import LayerPlan, PostNorm


def xlnet_plan(c: XLNetConfig) -> TwoStreamsPlan:
    """Token vectors without positions or norm; distances and segments enter the scores."""
    layer = LayerPlan(
        residual=PostNorm,
        hidden_size=c.d_model,
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        mixer=RelativeAttention.Config(
            hidden_size=c.d_model, num_heads=c.n_head, bias=False, out_bias=False, dropout=c.dropout
        ),
        mlp=Mlp.Config(
            hidden_size=c.d_model, inner_size=c.d_inner, activation=c.ff_activation, inner_dropout=c.dropout
        ),
        dropout=c.dropout,
    )
    return TwoStreamsPlan(
        embeddings=Embeddings.Config(vocab_size=c.vocab_size, hidden_size=c.d_model, dropout=c.dropout),
        layers=(layer,) * c.n_layer,
        causal=c.attn_type == "uni",
        same_length=c.same_length,
        max_distance=c.clamp_len if c.clamp_len > 0 else None,
        halves=c.bi_data,
        keeps=c.mem_len,
        reuses=c.reuse_len,
        keeps_by_default=(c.use_mems_eval, c.use_mems_train),
        dropout=c.dropout,
    )


@dataclass(frozen=True)
class ByHead(Same):
    """A published weight of shape (hidden, heads, head size); the native one is (heads * head size, hidden), or its
    transpose."""

    heads: int = 1

    def pull(self, published: Tensors) -> Iterator[tuple[str, Tensor]]:
        """Take this row's tensor out of `published`, yield it under our name."""
        if self.published in published:
            flat = published.pop(self.published).flatten(1)
            yield f"{self.native}.weight", (flat.t() if self.transpose else flat).contiguous()

    def push(self, native: Tensors) -> Iterator[tuple[str, Tensor]]:
        """The inverse of `pull`."""
        if (name := f"{self.native}.weight") in native:
            weight = native.pop(name)
            yield self.published, (weight.t() if self.transpose else weight).unflatten(1, (self.heads, -1)).contiguous()


def xlnet_rows(c: XLNetConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield Same("word_embedding", "embeddings.tokens")
    yield Same("mask_emb", "embeddings.hidden")
    published, native = "layer.{i}.rel_attn.", "layers.{i}."
    projections = (("q", "query"), ("k", "key"), ("v", "value"), ("r", "distance"))
    biases = (("r_w_bias", "content_bias"), ("r_r_bias", "distance_bias"), ("r_s_bias", "segment_bias"))
    yield from for_layers(
        c.n_layer,
        *(ByHead(published + x, f"{native}mixer.{y}", transpose=True, heads=c.n_head) for x, y in projections),
        ByHead(published + "o", native + "mixer.out", heads=c.n_head),
        *(Same(published + x, f"{native}mixer.{y}") for x, y in biases),
        Same(published + "seg_embed", native + "mixer.segments"),
        Same(published + "layer_norm", native + "mixer_norm"),
        Same("layer.{i}.ff.layer_1", native + "mlp.up"),
        Same("layer.{i}.ff.layer_2", native + "mlp.down"),
        Same("layer.{i}.ff.layer_norm", native + "mlp_norm"),
    )


def _language_model(c: XLNetConfig) -> LanguageModel.Config:
    """The labels are those of the predicted places, so nothing is moved by one."""
    return LanguageModel.Config.of(c, predicts="hidden", bias=True)


OVERLAP = 2
"""Tokens that are read again at each step of a growing text, now that others follow them."""


def _predict_next(c: XLNetConfig, inputs: dict[str, Any], mems: tuple[Tensor, ...] | None) -> dict[str, Any]:
    """Inputs that predict the place after the text, which nothing sees; of earlier tokens there are mems."""
    ids, mask = F.pad(inputs["input_ids"], (0, 1)), inputs["attention_mask"]
    if mems is not None:
        ids, mems = ids[:, -OVERLAP - 1 :], tuple(states[:-OVERLAP] for states in mems)
        mask = mask[:, -ids.shape[1] - len(mems[0]) :]
    batch, length = ids.shape
    last = F.one_hot(torch.tensor(length - 1, device=ids.device), length).float()
    given = {
        "input_ids": ids,
        "attention_mask": mask,
        "perm_mask": last.expand(batch, length, length),
        "target_mapping": last.expand(batch, 1, length),
        "mems": mems,
        "use_mems": inputs["use_cache"] and c.use_mems_eval and not c.reuse_len,
    }
    if "token_type_ids" in inputs:
        given["token_type_ids"] = inputs["token_type_ids"][:, -length:]
    return given


ANSWER_SEARCH_ROWS = (
    Same("start_logits.dense", "begin"),
    Same("end_logits.dense_0", "end_dense"),
    Same("end_logits.LayerNorm", "end_norm"),
    Same("end_logits.dense_1", "end"),
    Same("answer_class.dense_0", "none_dense"),
    Same("answer_class.dense_1", "none"),
)

XLNET = Architecture(
    tasks=declare_tasks(
        "XLNet",
        "transformer",
        xlnet_plan,
        xlnet_rows,
        {
            "causal-lm": TaskHead(
                "LMHeadModel",
                _language_model,
                (Same("lm_loss.weight", "out.weight"), Same("lm_loss.bias", "bias")),
                decoding=Decoding(_predict_next, keeps="mems"),
            ),
            "sequence-classification": TaskHead(
                "ForSequenceClassification",
                SummaryClassification.Config.by_options,
                (Same("sequence_summary.summary", "project"), Same("logits_proj", "out")),
            ),
            "token-classification": TaskHead(
                "ForTokenClassification", TokenClassification.Config.of, (Same("classifier", "out"),)
            ),
            "question-answering": TaskHead(
                "ForQuestionAnsweringSimple", QuestionAnswering.Config.of, (Same("qa_outputs", "out"),)
            ),
            "answer-search": TaskHead("ForQuestionAnswering", AnswerSearch.Config.of, ANSWER_SEARCH_ROWS),
            "multiple-choice": TaskHead(
                "ForMultipleChoice",
                partial(MultipleChoice.Config.by, one=SummaryClassification.Config.by_options),
                (Same("sequence_summary.summary", "one.project"), Same("logits_proj", "one.out")),
            ),
        },
    ),
    prefixes=("transformer",),
    initialization=lambda c: Initialization(c.initializer_range),
)
