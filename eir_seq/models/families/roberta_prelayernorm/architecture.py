"""Roberta-prelayernorm (https://arxiv.org/abs/1904.01038)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.families.bert.plan import bert_plan
from eir_seq.models.families.megatron_bert.architecture import pre_norm_rows
from eir_seq.models.families.roberta.architecture import roberta_like
from eir_seq.models.families.roberta_prelayernorm.options import RobertaPreLayerNormConfig
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.position_ids import InputPositionIds
from eir_seq.models.layers.residual import PreNorm


def prelayernorm_plan(c: RobertaPreLayerNormConfig, *, pooler: bool = True) -> StackPlan:
    """A norm on the embeddings and one after the last layer, which `hidden_states` do not pass."""
    assert c.pad_token_id is not None
    return replace(
        bert_plan(c, pooler=pooler, numbering=InputPositionIds(c.pad_token_id), residual=PreNorm),
        final_norm=LayerNorm.Config(eps=c.layer_norm_eps),
        norms_last_state=False,
    )


ROBERTA_PRELAYERNORM = roberta_like(
    "RobertaPreLayerNorm",
    "roberta_prelayernorm",
    prelayernorm_plan,
    partial(pre_norm_rows, attention_norm="LayerNorm", mlp_norm="intermediate.LayerNorm", final_norm="LayerNorm"),
)
