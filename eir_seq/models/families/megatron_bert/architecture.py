"""Megatron-bert (https://arxiv.org/abs/1909.08053): pre-norm bert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.options import EncoderConfig
from eir_seq.models.families.bert.plan import bert_embeddings, bert_plan
from eir_seq.models.families.megatron_bert.options import MegatronBertConfig
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.residual import PreNorm


def pre_norm_rows(c: EncoderConfig, attention_norm: str, mlp_norm: str, final_norm: str) -> Iterator[Row]:
    """Bert's key map with other names of norms: next to the attention's parts, in the layer, after all layers."""
    names = {
        "mixer_norm": f"attention.{attention_norm}",
        "cross_norm": f"crossattention.{attention_norm}",
        "mlp_norm": mlp_norm,
    }
    for row in bert_rows(c):
        name = row.native.rpartition(".")[2] if isinstance(row, Same) else ""
        if name in names:
            layer = ".".join(row.published.split(".")[:3])
            yield replace(row, published=f"{layer}.{names[name]}")
        else:
            yield row
    yield Same(final_norm, "final_norm")


def megatron_plan(c: MegatronBertConfig, *, pooler: bool = True) -> StackPlan:
    """No norm on the embeddings, one after the last layer."""
    return replace(
        bert_plan(c, pooler=pooler, residual=PreNorm),
        embeddings=replace(bert_embeddings(c), norm=None),
        final_norm=LayerNorm.Config(eps=c.layer_norm_eps),
    )


MEGATRON_BERT = bert_like(
    "MegatronBert",
    "bert",
    megatron_plan,
    partial(pre_norm_rows, attention_norm="ln", mlp_norm="ln", final_norm="encoder.ln"),
)
