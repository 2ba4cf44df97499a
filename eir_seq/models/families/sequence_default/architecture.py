"""This project's own encoder: today's usual parts, with options named as in EIR."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, Task
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.sequence_default.options import SequenceDefaultConfig
from eir_seq.models.families.sequence_default.windows import WindowsPlan
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.rms_norm import RMSNorm
from eir_seq.models.layers.positions.absolute import ComputedSinusoids, LearnedPositions, PositionsConfig
from eir_seq.models.layers.positions.rotary import Rotary
from eir_seq.models.layers.residual import LayerPlan, PreNorm


def sequence_default_plan(c: SequenceDefaultConfig) -> StackPlan | WindowsPlan:
    """Pre-norm layers with RMS norms, gated feed-forward blocks and a final norm; no biases."""
    positions: PositionsConfig | None = None
    if c.position == "encode":
        positions = ComputedSinusoids()
    elif c.position == "embed":
        positions = LearnedPositions.Config(count=c.max_position_embeddings)
    norm = RMSNorm.Config(eps=c.layer_norm_eps)
    layer = LayerPlan(
        residual=PreNorm,
        hidden_size=c.embedding_dim,
        norm=norm,
        mixer=Attention.Config(
            hidden_size=c.embedding_dim,
            num_heads=c.num_heads,
            bias=False,
            out_bias=False,
            causal=c.masked,
            dropout=c.dropout,
            rotary=Rotary() if c.position == "rotary" else None,
        ),
        mlp=Mlp.Config(
            hidden_size=c.embedding_dim,
            inner_size=c.dim_feedforward or 4 * c.embedding_dim,
            activation=c.activation,
            gated=True,
            bias=False,
        ),
        dropout=c.dropout,
    )
    stack = StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size,
            hidden_size=c.embedding_dim,
            positions=positions,
            dropout=c.dropout,
            padding_id=c.pad_token_id,
        ),
        layers=(layer,) * c.num_layers,
        final_norm=norm,
    )
    return WindowsPlan(stack=stack, size=c.window_size) if c.window_size else stack


def sequence_default_rows(c: SequenceDefaultConfig) -> Iterator[Row]:
    """Files hold our own names; whether there are windows does not show in them."""
    native = "stack." if c.window_size else ""
    for name in ("embeddings.tokens", "embeddings.positions", "final_norm"):
        yield Same(name, native + name)
    parts = ("mixer.query", "mixer.key", "mixer.value", "mixer.out", "mixer_norm", "mlp.gate", "mlp.up", "mlp.down")
    rows = (Same(f"layers.{{i}}.{part}", f"{native}layers.{{i}}.{part}") for part in (*parts, "mlp_norm"))
    yield from for_layers(c.num_layers, *rows)


SEQUENCE_DEFAULT = Architecture(
    tasks={
        "base": Task(published="SequenceDefaultModel", plan=sequence_default_plan, body_rows=sequence_default_rows),
    },
    prefixes=(),
    initialization=lambda c: Initialization(
        c.initializer_range,
        {
            "*.mixer.out.weight": c.initializer_range / (2 * c.num_layers) ** 0.5,
            "*.mlp.down.weight": c.initializer_range / (2 * c.num_layers) ** 0.5,
        },
    ),
)
