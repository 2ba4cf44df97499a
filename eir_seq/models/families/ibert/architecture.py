"""Ibert (https://arxiv.org/abs/2101.01321)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from eir_seq.models.architecture import Architecture
from eir_seq.models.backbones.stack import FirstTokenPooler, StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, Tree, for_layers
from eir_seq.models.families.ibert.layers import QuantizedEmbeddings, QuantizedLayer
from eir_seq.models.families.ibert.options import IBertConfig
from eir_seq.models.families.roberta.architecture import roberta_like


def ibert_plan(c: IBertConfig, *, pooler: bool = True) -> StackPlan:
    """Roberta; in integers no text is packed, since what is masked there keeps a place in the sum of weights."""
    return StackPlan(
        embeddings=QuantizedEmbeddings.Config(c),
        layers=(QuantizedLayer.Config(c),) * c.num_hidden_layers,
        pooler=FirstTokenPooler.Config(c.hidden_size) if pooler else None,
        packable=not c.quant_mode,
    )


def ibert_rows(c: IBertConfig) -> Iterator[Row]:
    """The key map of the body, buffers included."""
    for published, native in (
        ("word_embeddings", "tokens"),
        ("token_type_embeddings", "segments"),
        ("position_embeddings", "positions"),
        ("embeddings_act1", "sum"),
        ("embeddings_act2", "unread"),
        ("LayerNorm", "norm"),
        ("output_activation", "requantize"),
    ):
        yield Tree(f"embeddings.{published}", f"embeddings.{native}")
    names = {
        **{f"attention.self.{part}": f"mixer.{part}" for part in ("query", "key", "value", "softmax")},
        **{f"attention.self.{part}_activation": f"mixer.{part}_range" for part in ("query", "key", "value")},
        "attention.self.output_activation": "mixer.mixed_range",
        "attention.output.dense": "mixer.out",
        "attention.output.ln_input_act": "mixer_sum",
        "attention.output.LayerNorm": "mixer_norm",
        "attention.output.output_activation": "mixer_range",
        "pre_intermediate_act": "up_range",
        "intermediate.dense": "up",
        "intermediate.output_activation": "gelu_range",
        "pre_output_act": "down_range",
        "output.dense": "down",
        "output.ln_input_act": "mlp_sum",
        "output.LayerNorm": "mlp_norm",
        "output.output_activation": "mlp_range",
    }
    rows = (Tree(f"encoder.layer.{{i}}.{published}", f"layers.{{i}}.{native}") for published, native in names.items())
    yield from for_layers(c.num_hidden_layers, *rows)
    yield Same("pooler.dense", "pooler.dense")


def _without_causal(declared: Architecture) -> Architecture:
    return replace(declared, tasks={task: entry for task, entry in declared.tasks.items() if task != "causal-lm"})


IBERT = _without_causal(roberta_like("IBert", "ibert", ibert_plan, ibert_rows))
