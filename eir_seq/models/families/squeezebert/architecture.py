"""Squeezebert (https://arxiv.org/abs/2006.11316)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.plan import bert_layer, bert_plan
from eir_seq.models.families.squeezebert.options import SqueezeBertConfig
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm


class GroupedLinear(nn.Conv1d):
    """A linear layer whose channels are mixed within groups only; files hold it as a convolution of width one."""

    def __init__(self, in_size: int, out_size: int, groups: int) -> None:
        super().__init__(in_size, out_size, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        weight = self.weight.squeeze(-1)
        if self.groups == 1:
            return F.linear(x, weight, self.bias)
        by_group = weight.unflatten(0, (self.groups, -1))
        out = torch.einsum("...gi,goi->...go", x.unflatten(-1, (self.groups, -1)), by_group).flatten(-2)
        return out if self.bias is None else out + self.bias


class GroupedAttention(Attention):
    """Attention with grouped projections."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`groups`: of the projections to queries, keys and values, and after attention."""

        groups: tuple[int, int, int, int]

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        size = config.hidden_size
        layers = (GroupedLinear(size, size, groups) for groups in config.groups)
        self.query, self.key, self.value, self.out = layers  # type: ignore[assignment]


class GroupedMlp(Mlp):
    """A feed-forward block of grouped layers."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Mlp.Config):
        """`groups`: of the first and the second layer."""

        groups: tuple[int, int]

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.up = GroupedLinear(config.hidden_size, config.inner_size, config.groups[0])  # type: ignore[assignment]
        self.down = GroupedLinear(config.inner_size, config.hidden_size, config.groups[1])  # type: ignore[assignment]


def squeezebert_plan(c: SqueezeBertConfig, *, pooler: bool = True) -> StackPlan:  # noqa: ARG001
    """Bert with grouped projections; every published class has the pooler."""
    mixer = GroupedAttention.Config(
        hidden_size=c.hidden_size,
        num_heads=c.num_attention_heads,
        dropout=c.attention_probs_dropout_prob,
        groups=(c.q_groups, c.k_groups, c.v_groups, c.post_attention_groups),
    )
    mlp = GroupedMlp.Config(
        hidden_size=c.hidden_size,
        inner_size=c.intermediate_size,
        activation=c.hidden_act,
        groups=(c.intermediate_groups, c.output_groups),
    )
    layer = replace(bert_layer(c, mixer=mixer), mlp=mlp, norm=LayerNorm.Config(eps=1e-12))
    return replace(bert_plan(c), layers=(layer,) * c.num_hidden_layers)


def squeezebert_rows(c: SqueezeBertConfig) -> Iterator[Row]:
    """The key map of the body."""
    published, native = "encoder.layers.{i}.", "layers.{i}."
    yield from for_layers(
        c.num_hidden_layers,
        *(Same(f"{published}attention.{part}", f"{native}mixer.{part}") for part in ("query", "key", "value")),
        Same(published + "post_attention.conv1d", native + "mixer.out"),
        Same(published + "post_attention.layernorm", native + "mixer_norm"),
        Same(published + "intermediate.conv1d", native + "mlp.up"),
        Same(published + "output.conv1d", native + "mlp.down"),
        Same(published + "output.layernorm", native + "mlp_norm"),
    )
    yield from bert_rows(c)


SQUEEZEBERT = bert_like(
    "SqueezeBert",
    "transformer",
    squeezebert_plan,
    squeezebert_rows,
    own={"causal-lm": None, "next-sentence": None, "pretraining": None},
)
