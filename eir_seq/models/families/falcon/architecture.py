"""Falcon (https://arxiv.org/abs/2306.01116, https://arxiv.org/abs/2311.16867)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Fused, Row, Same, for_layers
from eir_seq.models.families.falcon.options import FalconConfig
from eir_seq.models.families.gpt2.heads import last_token_classification, next_token
from eir_seq.models.heads.spans_and_tokens import QuestionAnswering, TokenClassification
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.alibi import Alibi
from eir_seq.models.layers.positions.rope_scaling import rope_scaling_of
from eir_seq.models.layers.positions.rotary import Rotary
from eir_seq.models.layers.residual import Layer, LayerPlan, Parallel, ParallelOneNorm, PreNorm


class ParallelSum(Parallel):
    """Dropout falls on the sum of what both sublayers add."""

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        added: Tensor = self.dropout(self.mixer(self.mixer_norm(x), ctx) + self.mlp(self.mlp_norm(x)))
        return x + added


class ParallelOneNormSum(ParallelOneNorm):
    """The same with one norm."""

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        normed = self.mixer_norm(x)
        added: Tensor = self.dropout(self.mixer(normed, ctx) + self.mlp(normed))
        return x + added


def _wiring(c: FalconConfig) -> type[Layer]:
    if not c.parallel_attn:
        return PreNorm
    return ParallelSum if c.norms_of_layer == 2 else ParallelOneNormSum


def falcon_plan(c: FalconConfig) -> StackPlan:
    """Token table, residual layers of one of three kinds, a final norm; RoPE or ALiBi."""
    norm = LayerNorm.Config(eps=c.layer_norm_epsilon)
    rotary = Rotary(base=c.rope_theta, scaling=rope_scaling_of(c.rope_scaling, c.max_position_embeddings))
    layer = LayerPlan(
        residual=_wiring(c),
        hidden_size=c.hidden_size,
        norm=norm,
        mixer=Attention.Config(
            hidden_size=c.hidden_size,
            num_heads=c.num_attention_heads,
            num_kv_heads=c.key_heads,
            bias=c.bias,
            out_bias=c.bias,
            causal=True,
            dropout=c.attention_dropout,
            rotary=None if c.alibi else rotary,
            alibi=Alibi(scaled=True, rounded=True) if c.alibi else None,
        ),
        mlp=Mlp.Config(
            hidden_size=c.hidden_size,
            inner_size=c.ffn_hidden_size or 4 * c.hidden_size,
            activation=c.activation,
            bias=c.bias,
        ),
        dropout=c.hidden_dropout,
        mixer_dropout=c.attention_dropout,
    )
    return StackPlan(
        embeddings=Embeddings.Config(vocab_size=c.vocab_size, hidden_size=c.hidden_size),
        layers=(layer,) * c.num_hidden_layers,
        final_norm=norm,
        cached=c.use_cache,
    )


LAYER, NATIVE = "h.{i}.", "layers.{i}."


def _norm_rows(c: FalconConfig) -> tuple[Row, ...]:
    mixer, mlp = ("ln_attn", "ln_mlp") if c.norms_of_layer == 2 else ("input_layernorm", "post_attention_layernorm")
    rows = (Same(LAYER + mixer, NATIVE + "mixer_norm"), Same(LAYER + mlp, NATIVE + "mlp_norm"))
    return rows[:1] if c.parallel_attn and c.norms_of_layer == 1 else rows


def falcon_rows(c: FalconConfig) -> Iterator[Row]:
    """The key map of the body; the queries of each key head are followed by its key and its value."""
    yield Same("word_embeddings", "embeddings.tokens")
    yield from for_layers(
        c.num_hidden_layers,
        Fused(
            LAYER + "self_attention.query_key_value",
            (NATIVE + "mixer.query", NATIVE + "mixer.key", NATIVE + "mixer.value"),
            groups=c.key_heads,
            shares=(c.num_attention_heads // c.key_heads, 1, 1),
        ),
        Same(LAYER + "self_attention.dense", NATIVE + "mixer.out"),
        Same(LAYER + "mlp.dense_h_to_4h", NATIVE + "mlp.up"),
        Same(LAYER + "mlp.dense_4h_to_h", NATIVE + "mlp.down"),
        *_norm_rows(c),
    )
    yield Same("ln_f", "final_norm")


FALCON = Architecture(
    tasks=declare_tasks(
        "Falcon",
        "transformer",
        falcon_plan,
        falcon_rows,
        {
            "causal-lm": TaskHead("ForCausalLM", next_token, (Same("lm_head", "out"),)),
            "sequence-classification": TaskHead(
                "ForSequenceClassification", last_token_classification, (Same("score", "out"),)
            ),
            "token-classification": TaskHead(
                "ForTokenClassification",
                lambda c: TokenClassification.Config.of(c, dropout=c.hidden_dropout),
                (Same("classifier", "out"),),
            ),
            "question-answering": TaskHead(
                "ForQuestionAnswering", QuestionAnswering.Config.of, (Same("qa_outputs", "out"),)
            ),
        },
    ),
    prefixes=("transformer",),
    initialization=lambda c: Initialization(c.initializer_range),
)
