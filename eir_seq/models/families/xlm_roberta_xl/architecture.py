"""Xlm-roberta-xl (https://arxiv.org/abs/2105.00572)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.families.bert.plan import bert_embeddings, bert_layer, bert_plan
from eir_seq.models.families.megatron_bert.architecture import pre_norm_rows
from eir_seq.models.families.roberta.architecture import roberta_like
from eir_seq.models.families.xlm_roberta_xl.options import XLMRobertaXLConfig
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.position_ids import InputPositionIds, PositionIds
from eir_seq.models.layers.residual import PreNorm


def xl_plan(c: XLMRobertaXLConfig, *, pooler: bool = True) -> StackPlan:
    """As megatron-bert with roberta's positions; nothing drops out after the feed-forward block."""
    assert c.pad_token_id is not None
    numbering: PositionIds = InputPositionIds(c.pad_token_id)
    layer = replace(bert_layer(c, PreNorm), dropout=0.0, mixer_dropout=c.hidden_dropout_prob)
    return replace(
        bert_plan(c, pooler=pooler),
        embeddings=replace(bert_embeddings(c, numbering), norm=None),
        layers=(layer,) * c.num_hidden_layers,
        final_norm=LayerNorm.Config(eps=c.layer_norm_eps),
    )


XLM_ROBERTA_XL = roberta_like(
    "XLMRobertaXL",
    "roberta",
    xl_plan,
    partial(pre_norm_rows, attention_norm="self_attn_layer_norm", mlp_norm="LayerNorm", final_norm="encoder.LayerNorm"),
)
