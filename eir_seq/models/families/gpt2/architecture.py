"""GPT-2 (https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Fused, Row, Same, for_layers
from eir_seq.models.families.gpt2.heads import DOUBLE_HEADS, last_token_classification, next_token
from eir_seq.models.families.gpt2.options import GPTSizes, LikeGPT2
from eir_seq.models.heads.spans_and_tokens import QuestionAnswering, TokenClassification
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.attention.scorer import Float32Scorer, Scorer
from eir_seq.models.layers.build import Sized
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import LearnedPositions
from eir_seq.models.layers.residual import LayerPlan, PreNorm


def gpt2_attention(c: LikeGPT2, layer: int, *, cross: bool = False) -> Attention.Config:
    """Causal self-attention, or cross-attention; scores of deeper layers may be scaled down."""
    scale = (c.n_embd // c.n_head) ** -0.5 if c.scale_attn_weights else 1.0
    return Attention.Config(
        hidden_size=c.n_embd,
        num_heads=c.n_head,
        memory_size=c.n_embd if cross else None,
        causal=not cross,
        scale=scale / (layer + 1) if c.scale_attn_by_inverse_layer_idx else scale,
        dropout=c.attn_pdrop,
        scorer=Float32Scorer() if c.reorder_and_upcast_attn else Scorer(),
    )


def gpt_embeddings(c: GPTSizes) -> Embeddings.Config:
    """Token and position tables."""
    return Embeddings.Config(
        vocab_size=c.vocab_size,
        hidden_size=c.n_embd,
        positions=LearnedPositions.Config(count=c.n_positions),
        segments_are_tokens=True,
        dropout=c.embd_pdrop,
    )


def gpt_mlp(c: GPTSizes) -> Mlp.Config:
    """Feed-forward block, by default four times as wide as the states."""
    return Mlp.Config(hidden_size=c.n_embd, inner_size=c.n_inner or 4 * c.n_embd, activation=c.activation_function)


def gpt2_plan(c: LikeGPT2, norm: Sized | None = None) -> StackPlan:
    """Token and position tables, pre-norm layers, a final norm; by default norms center."""
    norm = norm or LayerNorm.Config(eps=c.layer_norm_epsilon)
    return StackPlan(
        embeddings=gpt_embeddings(c),
        layers=tuple(
            LayerPlan(
                residual=PreNorm,
                hidden_size=c.n_embd,
                norm=norm,
                mixer=gpt2_attention(c, i),
                cross=gpt2_attention(c, i, cross=True) if c.add_cross_attention else None,
                mlp=gpt_mlp(c),
                dropout=c.resid_pdrop,
            )
            for i in range(c.n_layer)
        ),
        final_norm=norm,
        cached=c.use_cache,
    )


LAYER, NATIVE = "h.{i}.", "layers.{i}."


def gpt2_rows(c: LikeGPT2) -> Iterator[Row]:
    """The key map of the body; published weights are (in, out)."""
    yield Same("wte", "embeddings.tokens")
    yield Same("wpe", "embeddings.positions")
    yield from for_layers(
        c.n_layer,
        Same(LAYER + "ln_1", NATIVE + "mixer_norm"),
        Fused(
            LAYER + "attn.c_attn",
            (NATIVE + "mixer.query", NATIVE + "mixer.key", NATIVE + "mixer.value"),
            transpose=True,
        ),
        Same(LAYER + "attn.c_proj", NATIVE + "mixer.out", transpose=True),
        Same(LAYER + "ln_cross_attn", NATIVE + "cross_norm"),
        Same(LAYER + "crossattention.q_attn", NATIVE + "cross.query", transpose=True),
        Fused(LAYER + "crossattention.c_attn", (NATIVE + "cross.key", NATIVE + "cross.value"), transpose=True),
        Same(LAYER + "crossattention.c_proj", NATIVE + "cross.out", transpose=True),
        Same(LAYER + "ln_2", NATIVE + "mlp_norm"),
        Same(LAYER + "mlp.c_fc", NATIVE + "mlp.up", transpose=True),
        Same(LAYER + "mlp.c_proj", NATIVE + "mlp.down", transpose=True),
    )
    yield Same("ln_f", "final_norm")


def gpt_token_classification(c: GPTSizes) -> TokenClassification.Config:
    """A linear layer on every token's state."""
    return TokenClassification.Config.of(c, dropout=0.1)


def gpt2_initialization(c: GPTSizes) -> Initialization:
    """Normal weights; those that write to the residual stream are the smaller the deeper the model is."""
    residual = c.initializer_range / (2 * c.n_layer) ** 0.5
    return Initialization(
        c.initializer_range,
        {"*.mixer.out.weight": residual, "*.cross.out.weight": residual, "*.mlp.down.weight": residual},
    )


GPT2 = Architecture(
    tasks=declare_tasks(
        "GPT2",
        "transformer",
        gpt2_plan,
        gpt2_rows,
        {
            "causal-lm": TaskHead("LMHeadModel", next_token, (Same("lm_head", "out"),)),
            "double-heads": DOUBLE_HEADS,
            "sequence-classification": TaskHead(
                "ForSequenceClassification", last_token_classification, (Same("score", "out"),)
            ),
            "token-classification": TaskHead(
                "ForTokenClassification", gpt_token_classification, (Same("classifier", "out"),)
            ),
            "question-answering": TaskHead(
                "ForQuestionAnswering",
                QuestionAnswering.Config.of,
                (Same("qa_outputs", "out"),),
            ),
        },
    ),
    prefixes=("transformer",),
    initialization=gpt2_initialization,
)
