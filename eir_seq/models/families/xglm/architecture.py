"""Xglm (https://arxiv.org/abs/2112.10668)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eir_seq.models.architecture import Architecture, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.opt.architecture import CAUSAL_LM, OFFSET, toolkit_rows
from eir_seq.models.families.xglm.options import XGLMConfig
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import ComputedSinusoids, tensor2tensor_sinusoids
from eir_seq.models.layers.residual import LayerPlan, PreNorm


def xglm_plan(c: XGLMConfig) -> StackPlan:
    """Scaled tokens, sinusoids for positions."""
    norm = LayerNorm.Config()
    attention: dict[str, Any] = {
        "hidden_size": c.d_model,
        "num_heads": c.attention_heads,
        "dropout": c.attention_dropout,
    }
    layer = LayerPlan(
        residual=PreNorm,
        hidden_size=c.d_model,
        norm=norm,
        mixer=Attention.Config(**attention, causal=True),
        cross=Attention.Config(**attention, memory_size=c.d_model) if c.add_cross_attention else None,
        mlp=Mlp.Config(
            hidden_size=c.d_model,
            inner_size=c.ffn_dim,
            activation=c.activation_function,
            inner_dropout=c.activation_dropout,
        ),
        dropout=c.dropout,
        skipped=c.layerdrop,
    )
    return StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size,
            hidden_size=c.d_model,
            positions=ComputedSinusoids(sinusoids=tensor2tensor_sinusoids, offset=OFFSET, blank=c.pad_token_id),
            scale=c.d_model**0.5 if c.scale_embedding else 1.0,
            scales_given=False,
            padding_id=c.pad_token_id,
            dropout=c.dropout,
        ),
        layers=(layer,) * c.num_layers,
        final_norm=norm,
        cached=c.use_cache,
    )


def xglm_rows(c: XGLMConfig) -> Iterator[Row]:
    """The key map of the body; sinusoids are in no file."""
    yield from toolkit_rows(c.num_layers)
    yield Same("layer_norm", "final_norm")


XGLM = Architecture(
    tasks=declare_tasks("XGLM", "model", xglm_plan, xglm_rows, {"causal-lm": CAUSAL_LM}),
    prefixes=("model",),
    initialization=lambda c: Initialization(c.init_std),
    ignored=(r"embed_positions\.weights$",),
)
