"""Mpnet (https://arxiv.org/abs/2004.09297)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.bert.keymap import LAYER, NATIVE, bert_rows
from eir_seq.models.families.bert.plan import bert_plan
from eir_seq.models.families.mpnet.options import MPNetConfig
from eir_seq.models.families.roberta.architecture import roberta_like
from eir_seq.models.layers.positions.position_ids import InputPositionIds
from eir_seq.models.layers.positions.relative import RelativeBuckets


def mpnet_plan(c: MPNetConfig, *, pooler: bool = True) -> StackPlan:
    """Roberta without segments, with a bias by distance that all layers share."""
    distances = RelativeBuckets.Config(
        num_buckets=c.relative_attention_num_buckets,
        max_distance=128,
        num_heads=c.num_attention_heads,
        bidirectional=True,
    )
    return replace(bert_plan(c, pooler=pooler, numbering=InputPositionIds(1)), score_bias=distances)


def mpnet_rows(c: MPNetConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield Same("encoder.relative_attention_bias", "score_bias.table")
    yield from for_layers(
        c.num_hidden_layers,
        Same(LAYER + "attention.attn.q", NATIVE + "mixer.query"),
        Same(LAYER + "attention.attn.k", NATIVE + "mixer.key"),
        Same(LAYER + "attention.attn.v", NATIVE + "mixer.value"),
        Same(LAYER + "attention.attn.o", NATIVE + "mixer.out"),
        Same(LAYER + "attention.LayerNorm", NATIVE + "mixer_norm"),
    )
    yield from bert_rows(c)


_WITH_CAUSAL = roberta_like("MPNet", "mpnet", mpnet_plan, mpnet_rows)

MPNET = replace(_WITH_CAUSAL, tasks={name: task for name, task in _WITH_CAUSAL.tasks.items() if name != "causal-lm"})
