"""Deberta's second and third version (https://arxiv.org/abs/2006.03654, https://arxiv.org/abs/2111.09543)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from eir_seq.models.architecture import TaskHead
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.bert.keymap import LAYER, NATIVE
from eir_seq.models.families.deberta.architecture import (
    deberta_classification,
    disentangled,
    disentangled_plan,
    disentangled_rows,
    score_scale,
)
from eir_seq.models.families.deberta_v2.options import DebertaV2Config
from eir_seq.models.heads.spans_and_tokens import MultipleChoice
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.disentangled import DisentangledAttention, Distances
from eir_seq.models.layers.build import Configured, Part
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.feed_forward.activations import activation
from eir_seq.models.layers.norms.layer_norm import LayerNorm


class ConvolvedLayer(Configured):
    """A layer with a convolution over its input in parallel: norm(layer(x) + act(convolution(x)))."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`layer`: without the convolution; `groups`: of the convolution's channels."""

        layer: Part
        hidden_size: int
        norm: LayerNorm.Config
        kernel_size: int
        groups: int
        activation: str
        dropout: float

    def __init__(self, plan: Config) -> None:
        super().__init__()
        size, kernel = plan.hidden_size, plan.kernel_size
        self.layer = plan.layer.build()
        self.conv = nn.Conv1d(size, size, kernel, padding=kernel // 2, groups=plan.groups)
        self.conv_norm = plan.norm.build(size)
        self.activation = activation(plan.activation)
        self.dropout = Dropout(plan.dropout)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout, zero at padding -> the same."""
        layout = ctx.layout
        local = layout.pack(self.conv(layout.pad(x).transpose(1, 2)).transpose(1, 2))
        convolved: Tensor = self.conv_norm(self.layer(x, ctx) + self.activation(self.dropout(local)))
        return convolved if layout.mask is None or layout.packed else convolved * layout.mask[..., None]


def deberta_v2_plan(c: DebertaV2Config, *, pooler: bool = False) -> StackPlan:
    """Far distances share rows; distances may be projected as tokens are; a convolution parallel to the first layer."""
    norm = LayerNorm.Config(eps=c.layer_norm_eps)
    distances = Distances(c.max_distance, c.buckets) if c.relative_attention else None
    mixer = DisentangledAttention.Config(
        hidden_size=c.hidden_size,
        num_heads=c.num_attention_heads,
        dropout=c.attention_probs_dropout_prob,
        scale=score_scale(c, len({"c2p", "p2c"} & set(c.compared))),
        distances_of=distances,
        by_query="c2p" in c.compared,
        by_key="p2c" in c.compared,
        shared_projections=c.share_att_key,
        position_dropout=c.hidden_dropout_prob,
    )
    table_norm = norm if c.norm_rel_ebd == "layer_norm" else None
    plan = disentangled_plan(c, mixer, distances, table_norm, pooler=pooler)
    if not c.conv_kernel_size:
        return plan
    first = ConvolvedLayer.Config(
        layer=plan.layers[0],
        hidden_size=c.hidden_size,
        norm=norm,
        kernel_size=c.conv_kernel_size,
        groups=c.conv_groups,
        activation=c.conv_act,
        dropout=c.hidden_dropout_prob,
    )
    return replace(plan, layers=(first, *plan.layers[1:]))


def deberta_v2_rows(c: DebertaV2Config) -> Iterator[Row]:
    """The key map of the body."""
    published, mixer = LAYER + "attention.self.", NATIVE + "mixer."
    rows = [
        *for_layers(
            c.num_hidden_layers,
            Same(published + "query_proj", mixer + "query"),
            Same(published + "key_proj", mixer + "key"),
            Same(published + "value_proj", mixer + "value"),
            Same(published + "pos_key_proj", mixer + "position_key"),
            Same(published + "pos_query_proj", mixer + "position_query"),
        ),
        *disentangled_rows(c),
    ]
    for row in rows:
        if c.conv_kernel_size and isinstance(row, Same) and row.native.startswith("layers.0."):
            yield replace(row, native=row.native.replace("layers.0.", "layers.0.layer.", 1))
        else:
            yield row
    yield Same("encoder.LayerNorm", "position_table.norm")
    yield Same("encoder.conv.conv", "layers.0.conv")
    yield Same("encoder.conv.LayerNorm", "layers.0.conv_norm")


def _initialization(c: DebertaV2Config) -> Initialization:
    """The convolution keeps the standard deviation of torch's own scheme."""
    inputs = c.hidden_size // c.conv_groups * max(c.conv_kernel_size, 1)
    return Initialization(c.initializer_range, {"*.conv.weight": (3 * inputs) ** -0.5})


CHOICE = TaskHead(
    "ForMultipleChoice",
    partial(MultipleChoice.Config.by, one=deberta_classification),
    (Same("pooler.dense", "one.dense"), Same("classifier", "one.out")),
)

DEBERTA_V2 = replace(
    disentangled("DebertaV2", deberta_v2_plan, deberta_v2_rows, choice=CHOICE), initialization=_initialization
)
