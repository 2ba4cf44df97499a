"""Bert and roberta with norms in front of the sublayers: megatron-bert, roberta-prelayernorm, xlm-roberta-xl.

Sources: https://arxiv.org/abs/1909.08053, https://arxiv.org/abs/1904.01038, https://arxiv.org/abs/2105.00572.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from eir_seq.models.architectures.bert import bert_embeddings, bert_layer, bert_like, bert_plan, bert_rows
from eir_seq.models.architectures.roberta import roberta_like
from eir_seq.models.blocks.norms import LayerNorm
from eir_seq.models.blocks.positions import CountReal, Numbering
from eir_seq.models.blocks.wiring import PreNorm
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.configs.bert import EncoderConfig
from eir_seq.models.configs.bert_like import MegatronBertConfig, RobertaPreLayerNormConfig, XLMRobertaXLConfig
from eir_seq.models.frames.stack import StackPlan


def pre_norm_rows(c: EncoderConfig, attention_norm: str, mlp_norm: str, final_norm: str) -> Iterator[Row]:
    """Bert's key table with other names of norms: beside the attention's parts, in the layer, behind all layers."""
    names = {
        "mixer_norm": f"attention.{attention_norm}",
        "cross_norm": f"crossattention.{attention_norm}",
        "mlp_norm": mlp_norm,
    }
    for row in bert_rows(c):
        name = row.ours.rpartition(".")[2] if isinstance(row, Same) else ""
        if name in names:
            layer = ".".join(row.theirs.split(".")[:3])
            yield replace(row, theirs=f"{layer}.{names[name]}")
        else:
            yield row
    yield Same(final_norm, "final_norm")


def megatron_plan(c: MegatronBertConfig, *, pooler: bool = True) -> StackPlan:
    """No norm on the embeddings, one behind the last layer."""
    return replace(
        bert_plan(c, pooler=pooler, wiring=PreNorm),
        embeddings=replace(bert_embeddings(c), norm=None),
        final_norm=LayerNorm.Config(eps=c.layer_norm_eps),
    )


def prelayernorm_plan(c: RobertaPreLayerNormConfig, *, pooler: bool = True) -> StackPlan:
    """A norm on the embeddings and one behind the last layer, which `hidden_states` do not pass."""
    assert c.pad_token_id is not None
    return replace(
        bert_plan(c, pooler=pooler, numbering=CountReal(c.pad_token_id), wiring=PreNorm),
        final_norm=LayerNorm.Config(eps=c.layer_norm_eps),
        norms_last_state=False,
    )


def xl_plan(c: XLMRobertaXLConfig, *, pooler: bool = True) -> StackPlan:
    """As megatron-bert with roberta's positions; nothing drops out behind the feed-forward block."""
    assert c.pad_token_id is not None
    numbering: Numbering = CountReal(c.pad_token_id)
    layer = replace(bert_layer(c, PreNorm), dropout=0.0, mixer_dropout=c.hidden_dropout_prob)
    return replace(
        bert_plan(c, pooler=pooler),
        embeddings=replace(bert_embeddings(c, numbering), norm=None),
        layers=(layer,) * c.num_hidden_layers,
        final_norm=LayerNorm.Config(eps=c.layer_norm_eps),
    )


MEGATRON_BERT = bert_like(
    "MegatronBert",
    "bert",
    megatron_plan,
    partial(pre_norm_rows, attention_norm="ln", mlp_norm="ln", final_norm="encoder.ln"),
)
ROBERTA_PRELAYERNORM = roberta_like(
    "RobertaPreLayerNorm",
    "roberta_prelayernorm",
    prelayernorm_plan,
    partial(pre_norm_rows, attention_norm="LayerNorm", mlp_norm="intermediate.LayerNorm", final_norm="LayerNorm"),
)
XLM_ROBERTA_XL = roberta_like(
    "XLMRobertaXL",
    "roberta",
    xl_plan,
    partial(pre_norm_rows, attention_norm="self_attn_layer_norm", mlp_norm="LayerNorm", final_norm="encoder.LayerNorm"),
)
