"""Biogpt (https://arxiv.org/abs/2210.10341)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.biogpt.options import BioGptConfig
from eir_seq.models.families.gpt2.heads import next_token
from eir_seq.models.families.opt.architecture import CLASSIFICATION, OFFSET, toolkit_rows
from eir_seq.models.heads.spans_and_tokens import TokenClassification
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import LearnedPositions
from eir_seq.models.layers.positions.position_ids import MaskPositionIds
from eir_seq.models.layers.residual import LayerPlan, PreNorm


def biogpt_plan(c: BioGptConfig) -> StackPlan:
    """Scaled tokens, learned positions of those that are not masked."""
    norm = LayerNorm.Config()
    layer = LayerPlan(
        residual=PreNorm,
        hidden_size=c.hidden_size,
        norm=norm,
        mixer=Attention.Config(
            hidden_size=c.hidden_size,
            num_heads=c.num_attention_heads,
            causal=True,
            dropout=c.attention_probs_dropout_prob,
        ),
        mlp=Mlp.Config(
            hidden_size=c.hidden_size,
            inner_size=c.intermediate_size,
            activation=c.hidden_act,
            inner_dropout=c.activation_dropout,
        ),
        dropout=c.hidden_dropout_prob,
        skipped=c.layerdrop,
    )
    return StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size,
            hidden_size=c.hidden_size,
            positions=LearnedPositions.Config(
                count=c.max_position_embeddings, numbering=MaskPositionIds(), offset=OFFSET
            ),
            scale=c.hidden_size**0.5 if c.scale_embedding else 1.0,
            scales_given=False,
            padding_id=c.pad_token_id,
            dropout=c.hidden_dropout_prob,
        ),
        layers=(layer,) * c.num_hidden_layers,
        final_norm=norm,
        norms_last_state=False,
        cached=c.use_cache,
    )


def biogpt_rows(c: BioGptConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield from toolkit_rows(c.num_hidden_layers)
    yield Same("embed_positions", "embeddings.positions")
    yield Same("layer_norm", "final_norm")


def _biogpt_tokens(c: BioGptConfig) -> TokenClassification.Config:
    return TokenClassification.Config.of(c, dropout=c.hidden_dropout_prob)


BIOGPT = Architecture(
    tasks=declare_tasks(
        "BioGpt",
        "biogpt",
        biogpt_plan,
        biogpt_rows,
        {
            "causal-lm": TaskHead("ForCausalLM", next_token, (Same("output_projection", "out"),)),
            "sequence-classification": CLASSIFICATION,
            "token-classification": TaskHead("ForTokenClassification", _biogpt_tokens, (Same("classifier", "out"),)),
        },
    ),
    prefixes=("biogpt",),
    initialization=lambda c: Initialization(c.initializer_range),
)
