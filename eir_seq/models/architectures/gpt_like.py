"""Decoders near to gpt2.

Openai-gpt (https://s3-us-west-2.amazonaws.com/openai-assets/research-covers/language-unsupervised/language_understanding_paper.pdf)
and ctrl (https://arxiv.org/abs/1909.05858).
"""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.architectures.decoder_heads import DOUBLE_HEADS, last_token_classification, next_token
from eir_seq.models.blocks.attention import Attention
from eir_seq.models.blocks.embeddings import Embeddings
from eir_seq.models.blocks.mlp import Mlp
from eir_seq.models.blocks.norms import LayerNorm
from eir_seq.models.blocks.positions import LearnedPositions, SinesThenCosines, WavePositions
from eir_seq.models.blocks.wiring import LayerPlan, PostNorm, PreNorm
from eir_seq.models.checkpoint.keymap import Fused, Row, Same, for_layers
from eir_seq.models.configs.gpt_like import CTRLConfig, OpenAIGPTConfig
from eir_seq.models.frames.stack import StackPlan
from eir_seq.models.initialization import Initialization

LAYER, OURS = "h.{i}.", "layers.{i}."

# --------------------------------------------------------------------------------------------------- openai-gpt


def openai_gpt_plan(c: OpenAIGPTConfig) -> StackPlan:
    """Gpt2's parts with norms behind the sublayers and none at the end."""
    layer = LayerPlan(
        wiring=PostNorm,
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
    """The key table of the body; published weights are (in, out)."""
    yield Same("tokens_embed", "embeddings.tokens")
    yield Same("positions_embed", "embeddings.positions")
    yield from for_layers(
        c.n_layer,
        Fused(LAYER + "attn.c_attn", (OURS + "mixer.query", OURS + "mixer.key", OURS + "mixer.value"), transpose=True),
        Same(LAYER + "attn.c_proj", OURS + "mixer.out", transpose=True),
        Same(LAYER + "ln_1", OURS + "mixer_norm"),
        Same(LAYER + "mlp.c_fc", OURS + "mlp.up", transpose=True),
        Same(LAYER + "mlp.c_proj", OURS + "mlp.down", transpose=True),
        Same(LAYER + "ln_2", OURS + "mlp_norm"),
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

# --------------------------------------------------------------------------------------------------------- ctrl

CTRL_LAYER_EPS = 1e-6
"""The option sets that of the last norm only."""


def ctrl_plan(c: CTRLConfig) -> StackPlan:
    """Scaled tokens and fixed waves, layers with norms in front, a final norm; attention weights have no dropout."""
    layer = LayerPlan(
        wiring=PreNorm,
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
            positions=WavePositions(waves=SinesThenCosines.waves),
            scale=c.n_embd**0.5,
            segments_are_tokens=True,
            dropout=c.embd_pdrop,
        ),
        layers=(layer,) * c.n_layer,
        final_norm=LayerNorm.Config(eps=c.layer_norm_epsilon),
        cached=c.use_cache,
    )


def ctrl_rows(c: CTRLConfig) -> Iterator[Row]:
    """The key table of the body."""
    yield Same("w", "embeddings.tokens")
    attention = LAYER + "multi_head_attention."
    yield from for_layers(
        c.n_layer,
        Same(LAYER + "layernorm1", OURS + "mixer_norm"),
        Same(attention + "Wq", OURS + "mixer.query"),
        Same(attention + "Wk", OURS + "mixer.key"),
        Same(attention + "Wv", OURS + "mixer.value"),
        Same(attention + "dense", OURS + "mixer.out"),
        Same(LAYER + "layernorm2", OURS + "mlp_norm"),
        Same(LAYER + "ffn.0", OURS + "mlp.up"),
        Same(LAYER + "ffn.2", OURS + "mlp.down"),
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
