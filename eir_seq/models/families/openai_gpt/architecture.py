"""Openai-gpt, the first GPT, post-norm."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Fused, Row, Same, for_layers
from eir_seq.models.families.gpt2.heads import DOUBLE_HEADS, last_token_classification, next_token
from eir_seq.models.families.openai_gpt.options import OpenAIGPTConfig
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import LearnedPositions
from eir_seq.models.layers.residual import LayerPlan, PostNorm

LAYER, NATIVE = "h.{i}.", "layers.{i}."


def openai_gpt_plan(c: OpenAIGPTConfig) -> StackPlan:
    """Gpt2's parts in post-norm layers, without a final norm."""
    layer = LayerPlan(
        residual=PostNorm,
        hidden_size=c.n_embd,
        norm=LayerNorm.Config(eps=c.layer_norm_epsilon),
        mixer=Attention.Config(hidden_size=c.n_embd, num_heads=c.n_head, causal=True, dropout=c.attn_pdrop),
        mlp=Mlp.Config(
            hidden_size=c.n_embd, inner_size=4 * c.n_embd, activation="gelu_new" if c.afn == "gelu" else c.afn
        ),
        dropout=c.resid_pdrop,
    )
    return StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size,
            hidden_size=c.n_embd,
            positions=LearnedPositions.Config(count=c.n_positions),
            segments_are_tokens=True,
            dropout=c.embd_pdrop,
        ),
        layers=(layer,) * c.n_layer,
        cached=True,
    )


def openai_gpt_rows(c: OpenAIGPTConfig) -> Iterator[Row]:
    """The key map of the body; published weights are (in, out)."""
    yield Same("tokens_embed", "embeddings.tokens")
    yield Same("positions_embed", "embeddings.positions")
    yield from for_layers(
        c.n_layer,
        Fused(
            LAYER + "attn.c_attn",
            (NATIVE + "mixer.query", NATIVE + "mixer.key", NATIVE + "mixer.value"),
            transpose=True,
        ),
        Same(LAYER + "attn.c_proj", NATIVE + "mixer.out", transpose=True),
        Same(LAYER + "ln_1", NATIVE + "mixer_norm"),
        Same(LAYER + "mlp.c_fc", NATIVE + "mlp.up", transpose=True),
        Same(LAYER + "mlp.c_proj", NATIVE + "mlp.down", transpose=True),
        Same(LAYER + "ln_2", NATIVE + "mlp_norm"),
    )


OPENAI_GPT = Architecture(
    tasks=declare_tasks(
        "OpenAIGPT",
        "transformer",
        openai_gpt_plan,
        openai_gpt_rows,
        {
            "causal-lm": TaskHead("LMHeadModel", next_token, (Same("lm_head", "out"),)),
            "double-heads": DOUBLE_HEADS,
            "sequence-classification": TaskHead(
                "ForSequenceClassification", last_token_classification, (Same("score", "out"),)
            ),
        },
    ),
    prefixes=("transformer",),
    initialization=lambda c: Initialization(c.initializer_range),
)
