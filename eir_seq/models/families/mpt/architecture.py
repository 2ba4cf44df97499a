"""Mpt (https://www.databricks.com/blog/mpt-7b)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Fused, Row, Same, for_layers
from eir_seq.models.families.bloom.architecture import HEADS
from eir_seq.models.families.mpt.options import MptConfig
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.alibi import Alibi
from eir_seq.models.layers.positions.position_ids import ArangePositionIds
from eir_seq.models.layers.residual import LayerPlan, PreNorm


class ClippingAttention(Attention):
    """Attention over queries, keys and values within a bound."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`bound`: their greatest absolute value."""

        bound: float

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.clip = nn.Hardtanh(-config.bound, config.bound)
        self.query_norm = self.key_norm = self.clip  # type: ignore[assignment]

    def _values(self, x: Tensor, ctx: Context) -> Tensor:  # noqa: ARG002
        return self._heads(self.clip(x))


def _mpt_attention(c: MptConfig) -> Attention.Config:
    parts: dict[str, Any] = {
        "hidden_size": c.d_model,
        "num_heads": c.n_heads,
        "bias": False,
        "out_bias": False,
        "causal": True,
        "scale": c.attention.softmax_scale,
        "dropout": c.attention.attn_pdrop,
        "alibi": Alibi(numbering=ArangePositionIds()),
    }
    bound = c.attention.clip_qkv
    return ClippingAttention.Config(**parts, bound=bound) if bound else Attention.Config(**parts)


def mpt_plan(c: MptConfig) -> StackPlan:
    """Token vectors, pre-norm layers, a final norm; no biases. Distances count padding inside a text too."""
    norm = LayerNorm.Config(eps=c.layer_norm_epsilon, bias=False)
    layer = LayerPlan(
        residual=PreNorm,
        hidden_size=c.d_model,
        norm=norm,
        mixer=_mpt_attention(c),
        mlp=Mlp.Config(hidden_size=c.d_model, inner_size=4 * c.d_model, bias=False),
        dropout=c.resid_pdrop,
    )
    return StackPlan(
        embeddings=Embeddings.Config(vocab_size=c.vocab_size, hidden_size=c.d_model, dropout=c.emb_pdrop),
        layers=(layer,) * c.n_layers,
        final_norm=norm,
        cached=True,
    )


def mpt_rows(c: MptConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield Same("wte", "embeddings.tokens")
    published, native = "blocks.{i}.", "layers.{i}."
    mixer = f"{native}mixer."
    yield from for_layers(
        c.n_layers,
        Same(f"{published}norm_1", f"{native}mixer_norm"),
        Fused(f"{published}attn.Wqkv", (f"{mixer}query", f"{mixer}key", f"{mixer}value")),
        Same(f"{published}attn.out_proj", f"{mixer}out"),
        Same(f"{published}norm_2", f"{native}mlp_norm"),
        Same(f"{published}ffn.up_proj", f"{native}mlp.up"),
        Same(f"{published}ffn.down_proj", f"{native}mlp.down"),
    )
    yield Same("norm_f", "final_norm")


def _mpt_language_model(c: MptConfig) -> LanguageModel.Config:
    return LanguageModel.Config.of(c, predicts="next", scale=1.0 if c.logit_scale is None else c.logit_scale)


MPT = Architecture(
    tasks=declare_tasks(
        "Mpt",
        "transformer",
        mpt_plan,
        mpt_rows,
        {**HEADS, "causal-lm": TaskHead("ForCausalLM", _mpt_language_model, (Same("lm_head", "out"),))},
    ),
    prefixes=("transformer",),
    initialization=lambda c: Initialization(c.initializer_range),
)
