"""What the body of bert is made of."""

from __future__ import annotations

from dataclasses import replace

from eir_seq.models.backbones.stack import FirstTokenPooler, StackPlan
from eir_seq.models.families.bert.options import BertConfig, EncoderWithoutSegments, WithTables
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.build import Part
from eir_seq.models.layers.embeddings import Embeddings, FeatureEmbedding
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import LearnedPositions
from eir_seq.models.layers.positions.position_ids import ArangePositionIds, PositionIds
from eir_seq.models.layers.positions.relative import LearnedDistances
from eir_seq.models.layers.residual import Layer, LayerPlan, PostNorm


def bert_attention(c: EncoderWithoutSegments, *, cross: bool = False) -> Attention.Config:
    """Self-attention or cross-attention; positions may enter as learned distances."""
    distances, kind = None, getattr(c, "position_embedding_type", "absolute")
    if kind != "absolute" and not cross:
        distances = LearnedDistances.Config(
            max_positions=c.max_position_embeddings,
            head_size=c.hidden_size // c.num_attention_heads,
            with_key=kind == "relative_key_query",
        )
    return Attention.Config(
        hidden_size=c.hidden_size,
        num_heads=c.num_attention_heads,
        memory_size=c.hidden_size if cross else None,
        causal=getattr(c, "is_decoder", False) and not cross,
        dropout=c.attention_probs_dropout_prob,
        distances=distances,
    )


def bert_embeddings(
    c: WithTables,
    numbering: PositionIds = ArangePositionIds(),
    positions: bool = True,
) -> Embeddings.Config:
    """Vectors of tokens, positions (unless distances stand for them) and segments, with a norm."""
    table = LearnedPositions.Config(count=c.max_position_embeddings, numbering=numbering)
    absolute = positions and getattr(c, "position_embedding_type", "absolute") == "absolute"
    return Embeddings.Config(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        positions=table if absolute else None,
        num_segments=getattr(c, "type_vocab_size", 0),
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        dropout=c.hidden_dropout_prob,
        padding_id=c.pad_token_id,
    )


def bert_layer(c: EncoderWithoutSegments, residual: type[Layer] = PostNorm, mixer: Part | None = None) -> LayerPlan:
    """Attention, over other states too if requested, and a feed-forward block."""
    return LayerPlan(
        residual=residual,
        hidden_size=c.hidden_size,
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        mixer=mixer or bert_attention(c),
        cross=bert_attention(c, cross=True) if getattr(c, "add_cross_attention", False) else None,
        mlp=Mlp.Config(hidden_size=c.hidden_size, inner_size=c.intermediate_size, activation=c.hidden_act),
        dropout=c.hidden_dropout_prob,
    )


def bert_plan(
    c: EncoderWithoutSegments,
    *,
    pooler: bool = True,
    numbering: PositionIds = ArangePositionIds(),
    residual: type[Layer] = PostNorm,
    positions: bool = True,
    mixer: Part | None = None,
    embedding_size: int | None = None,
    further: FeatureEmbedding | None = None,
) -> StackPlan:
    """Embeddings with a norm, post-norm layers, a pooler of the first token.

    `positions`: whether there is a table of them; `mixer`: instead of bert's; `embedding_size`: of narrower tables;
    `further`: vectors of other inputs.
    """
    embeddings = bert_embeddings(c, numbering, positions)
    return StackPlan(
        embeddings=replace(embeddings, embedding_size=embedding_size, further=further),
        layers=(bert_layer(c, residual, mixer),) * c.num_hidden_layers,
        pooler=FirstTokenPooler.Config(c.hidden_size) if pooler else None,
        cached=getattr(c, "is_decoder", False) and getattr(c, "use_cache", False),
    )


def without_pooler(c: BertConfig) -> StackPlan:
    """The body of heads that read token states."""
    return bert_plan(c, pooler=False)


def bert_initialization(c: EncoderWithoutSegments) -> Initialization:
    """Normal weights of one standard deviation."""
    return Initialization(c.initializer_range)
