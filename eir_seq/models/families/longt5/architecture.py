"""Longt5 (https://arxiv.org/abs/2112.07916): t5 whose encoder attends to nearby tokens and optionally to block sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.encoder_decoder import EncoderDecoderPlan
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.longt5.attention import BiasTable, LocalAttention
from eir_seq.models.families.longt5.options import LongT5Config
from eir_seq.models.families.t5.architecture import LANGUAGE_MODEL, t5_initialization, t5_side_rows, t5_stack
from eir_seq.models.layers.norms.rms_norm import RMSNorm


def _encoder_plan(c: LongT5Config) -> StackPlan:
    plan, summed = t5_stack(c, decoder=False), c.summed()
    buckets: Any = plan.score_bias
    mixer = LocalAttention.Config(
        hidden_size=c.d_model,
        num_heads=c.num_heads,
        head_size=c.d_kv,
        reach=c.local_radius,
        norm=RMSNorm.Config(eps=c.layer_norm_epsilon),
        summed=summed,
        dropout=c.dropout_rate,
    )
    layers: tuple[Any, ...] = plan.layers
    return replace(
        plan,
        layers=tuple(replace(layer, mixer=mixer) for layer in layers),
        score_bias=None,
        position_table=BiasTable.Config(buckets=buckets, sums=summed is not None),
        packs_right_padding_only=summed is not None,  # as published, padding before a text moves what is summed
    )


def _plan(c: LongT5Config) -> EncoderDecoderPlan:
    return EncoderDecoderPlan(encoder=_encoder_plan(c), decoder=t5_stack(c, decoder=True))


def _encoder_side_rows(c: LongT5Config, native: str) -> Iterator[Row]:
    attention = "LocalSelfAttention" if c.summed() is None else "TransientGlobalSelfAttention"
    first = f"encoder.block.0.layer.0.{attention}."
    yield Same(f"{first}relative_attention_bias", f"{native}position_table.tokens.table")
    yield Same(f"{first}global_relative_attention_bias", f"{native}position_table.sums.table")
    yield from for_layers(
        c.num_layers,
        Same(
            f"encoder.block.{{i}}.layer.0.{attention}.global_input_layer_norm", f"{native}layers.{{i}}.mixer.sum_norm"
        ),
    )
    for row in t5_side_rows(c, "encoder.", native, decoder=False):
        yield replace(row, published=row.published.replace(".SelfAttention.", f".{attention}."))


def _rows(c: LongT5Config) -> Iterator[Row]:
    for name in ("shared", "encoder.embed_tokens", "decoder.embed_tokens"):  # one table; files hold any of its names
        yield Same(name, "encoder.embeddings.tokens")
    yield from _encoder_side_rows(c, "encoder.")
    yield from t5_side_rows(c, "decoder.", "decoder.", decoder=True)


def _encoder_rows(c: LongT5Config) -> Iterator[Row]:
    for name in ("shared", "encoder.embed_tokens"):
        yield Same(name, "embeddings.tokens")
    yield from _encoder_side_rows(c, "")


LONGT5 = Architecture(
    tasks=declare_tasks(
        "LongT5",
        "",
        _plan,
        _rows,
        {
            "encoder": TaskHead("EncoderModel", None, plan=_encoder_plan, body_rows=_encoder_rows),
            "seq2seq-lm": LANGUAGE_MODEL,
        },
    ),
    prefixes=("transformer",),
    initialization=t5_initialization,
    ignored=(r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias",),
)
