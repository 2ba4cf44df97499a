"""Gpt_bigcode (https://arxiv.org/abs/2301.03988)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Fused, Row, Same, for_layers
from eir_seq.models.families.gpt2.architecture import (
    gpt2_initialization,
    gpt_embeddings,
    gpt_mlp,
    gpt_token_classification,
)
from eir_seq.models.families.gpt2.heads import last_token_classification, next_token
from eir_seq.models.families.gpt_bigcode.options import GPTBigCodeConfig
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.attention.scorer import Float32Scorer, Scorer
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.residual import LayerPlan, PreNorm


def gpt_bigcode_plan(c: GPTBigCodeConfig) -> StackPlan:
    """Gpt2's parts; by default all query heads share one head of keys and values."""
    norm = LayerNorm.Config(eps=c.layer_norm_epsilon)
    layer = LayerPlan(
        residual=PreNorm,
        hidden_size=c.n_embd,
        norm=norm,
        mixer=Attention.Config(
            hidden_size=c.n_embd,
            num_heads=c.n_head,
            num_kv_heads=c.key_heads,
            causal=True,
            scale=None if c.scale_attn_weights else 1.0,
            dropout=c.attn_pdrop,
            scorer=Float32Scorer() if c.attention_softmax_in_fp32 else Scorer(),
        ),
        mlp=gpt_mlp(c),
        dropout=c.resid_pdrop,
    )
    return StackPlan(embeddings=gpt_embeddings(c), layers=(layer,) * c.n_layer, final_norm=norm, cached=c.use_cache)


LAYER, NATIVE = "h.{i}.", "layers.{i}."


def gpt_bigcode_rows(c: GPTBigCodeConfig) -> Iterator[Row]:
    """The key map of the body; the queries of each key head are followed by its key and its value."""
    yield Same("wte", "embeddings.tokens")
    yield Same("wpe", "embeddings.positions")
    yield from for_layers(
        c.n_layer,
        Same(LAYER + "ln_1", NATIVE + "mixer_norm"),
        Fused(
            LAYER + "attn.c_attn",
            (NATIVE + "mixer.query", NATIVE + "mixer.key", NATIVE + "mixer.value"),
            groups=c.key_heads,
            shares=(c.n_head // c.key_heads, 1, 1),
        ),
        Same(LAYER + "attn.c_proj", NATIVE + "mixer.out"),
        Same(LAYER + "ln_2", NATIVE + "mlp_norm"),
        Same(LAYER + "mlp.c_fc", NATIVE + "mlp.up"),
        Same(LAYER + "mlp.c_proj", NATIVE + "mlp.down"),
    )
    yield Same("ln_f", "final_norm")


GPT_BIGCODE = Architecture(
    tasks=declare_tasks(
        "GPTBigCode",
        "transformer",
        gpt_bigcode_plan,
        gpt_bigcode_rows,
        {
            "causal-lm": TaskHead("ForCausalLM", next_token, (Same("lm_head", "out"),)),
            "sequence-classification": TaskHead(
                "ForSequenceClassification", last_token_classification, (Same("score", "out"),)
            ),
            "token-classification": TaskHead(
                "ForTokenClassification", gpt_token_classification, (Same("classifier", "out"),)
            ),
        },
    ),
    prefixes=("transformer",),
    initialization=gpt2_initialization,
)
