"""Ctrl (https://arxiv.org/abs/1909.05858)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.ctrl.options import CTRLConfig
from eir_seq.models.families.gpt2.heads import last_token_classification, next_token
from eir_seq.models.families.openai_gpt.architecture import LAYER, NATIVE
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import ComputedSinusoids, SinesThenCosines
from eir_seq.models.layers.residual import LayerPlan, PreNorm

CTRL_LAYER_EPS = 1e-6
"""The option sets that of the last norm only."""


def ctrl_plan(c: CTRLConfig) -> StackPlan:
    """Scaled tokens, sinusoidal positions, pre-norm layers, a final norm; attention weights have no dropout."""
    layer = LayerPlan(
        residual=PreNorm,
        hidden_size=c.n_embd,
        norm=LayerNorm.Config(eps=CTRL_LAYER_EPS),
        mixer=Attention.Config(hidden_size=c.n_embd, num_heads=c.n_head, causal=True),
        mlp=Mlp.Config(hidden_size=c.n_embd, inner_size=c.dff, activation="relu"),
        dropout=c.resid_pdrop,
    )
    return StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size,
            hidden_size=c.n_embd,
            positions=ComputedSinusoids(sinusoids=SinesThenCosines.sinusoids),
            scale=c.n_embd**0.5,
            segments_are_tokens=True,
            dropout=c.embd_pdrop,
        ),
        layers=(layer,) * c.n_layer,
        final_norm=LayerNorm.Config(eps=c.layer_norm_epsilon),
        cached=c.use_cache,
    )


def ctrl_rows(c: CTRLConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield Same("w", "embeddings.tokens")
    attention = LAYER + "multi_head_attention."
    yield from for_layers(
        c.n_layer,
        Same(LAYER + "layernorm1", NATIVE + "mixer_norm"),
        Same(attention + "Wq", NATIVE + "mixer.query"),
        Same(attention + "Wk", NATIVE + "mixer.key"),
        Same(attention + "Wv", NATIVE + "mixer.value"),
        Same(attention + "dense", NATIVE + "mixer.out"),
        Same(LAYER + "layernorm2", NATIVE + "mlp_norm"),
        Same(LAYER + "ffn.0", NATIVE + "mlp.up"),
        Same(LAYER + "ffn.2", NATIVE + "mlp.down"),
    )
    yield Same("layernorm", "final_norm")


CTRL = Architecture(
    tasks=declare_tasks(
        "CTRL",
        "transformer",
        ctrl_plan,
        ctrl_rows,
        {
            "causal-lm": TaskHead(
                "LMHeadModel",
                lambda c: next_token(c, bias=True),
                (Same("lm_head.weight", "out.weight"), Same("lm_head.bias", "bias")),
            ),
            "sequence-classification": TaskHead(
                "ForSequenceClassification", last_token_classification, (Same("classifier", "out"),)
            ),
        },
    ),
    prefixes=("transformer",),
    initialization=lambda c: Initialization(c.initializer_range),
)
