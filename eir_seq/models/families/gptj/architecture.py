"""Gptj (https://github.com/kingoflolz/mesh-transformer-jax) and codegen (https://arxiv.org/abs/2203.13474)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Fused, Row, Same, for_layers
from eir_seq.models.families.gpt2.architecture import gpt_mlp
from eir_seq.models.families.gpt2.heads import last_token_classification, next_token
from eir_seq.models.families.gptj.options import CODEGEN_BLOCKS, GPTJConfig
from eir_seq.models.heads.spans_and_tokens import QuestionAnswering
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.attention.scorer import Float32Scorer
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.rotary import InterleavedRotary
from eir_seq.models.layers.residual import LayerPlan, ParallelOneNorm


def gptj_plan(c: GPTJConfig) -> StackPlan:
    """Token table, layers whose sublayers read one normed state side by side, a final norm."""
    norm = LayerNorm.Config(eps=c.layer_norm_epsilon)
    layer = LayerPlan(
        residual=ParallelOneNorm,
        hidden_size=c.n_embd,
        norm=norm,
        mixer=Attention.Config(
            hidden_size=c.n_embd,
            num_heads=c.n_head,
            bias=False,
            out_bias=False,
            causal=True,
            dropout=c.attn_pdrop,
            rotary=InterleavedRotary(channels=c.rotary_dim),
            scorer=Float32Scorer(),
        ),
        mlp=gpt_mlp(c),
        dropout=c.resid_pdrop,
    )
    return StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size, hidden_size=c.n_embd, segments_are_tokens=True, dropout=c.embd_pdrop
        ),
        layers=(layer,) * c.n_layer,
        final_norm=norm,
        cached=c.use_cache,
    )


LAYER, NATIVE = "h.{i}.", "layers.{i}."


def _rows(c: GPTJConfig, *projections: Row) -> Iterator[Row]:
    yield Same("wte", "embeddings.tokens")
    yield from for_layers(
        c.n_layer,
        Same(LAYER + "ln_1", NATIVE + "mixer_norm"),
        *projections,
        Same(LAYER + "attn.out_proj", NATIVE + "mixer.out"),
        Same(LAYER + "mlp.fc_in", NATIVE + "mlp.up"),
        Same(LAYER + "mlp.fc_out", NATIVE + "mlp.down"),
    )
    yield Same("ln_f", "final_norm")


SEPARATE = (
    Same(LAYER + "attn.q_proj", NATIVE + "mixer.query"),
    Same(LAYER + "attn.k_proj", NATIVE + "mixer.key"),
    Same(LAYER + "attn.v_proj", NATIVE + "mixer.value"),
)
BLOCKS = Fused(
    LAYER + "attn.qkv_proj",
    (NATIVE + "mixer.query", NATIVE + "mixer.value", NATIVE + "mixer.key"),
    groups=CODEGEN_BLOCKS,
)


CAUSAL_LM = TaskHead(
    "ForCausalLM",
    lambda c: next_token(c, bias=True),
    (Same("lm_head.weight", "out.weight"), Same("lm_head.bias", "bias")),
)

GPTJ = Architecture(
    tasks=declare_tasks(
        "GPTJ",
        "transformer",
        gptj_plan,
        lambda c: _rows(c, *SEPARATE),
        {
            "causal-lm": CAUSAL_LM,
            "sequence-classification": TaskHead(
                "ForSequenceClassification", last_token_classification, (Same("score", "out"),)
            ),
            "question-answering": TaskHead(
                "ForQuestionAnswering",
                QuestionAnswering.Config.of,
                (Same("qa_outputs", "out"),),
            ),
        },
    ),
    prefixes=("transformer",),
    initialization=lambda c: Initialization(c.initializer_range),
)

CODEGEN = Architecture(
    tasks=declare_tasks("CodeGen", "transformer", gptj_plan, lambda c: _rows(c, BLOCKS), {"causal-lm": CAUSAL_LM}),
    prefixes=("transformer",),
    initialization=lambda c: Initialization(c.initializer_range),
    ignored=(r"(^|\.)attn\.causal_mask$",),
)
