"""Prophetnet and xlm-prophetnet (https://arxiv.org/abs/2001.04063): a decoder that predicts several tokens at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.encoder_decoder import EncoderDecoderPlan
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.prophetnet.attention import NgramAttention
from eir_seq.models.families.prophetnet.heads import NgramLanguageModel
from eir_seq.models.families.prophetnet.ngram import NgramPlan
from eir_seq.models.families.prophetnet.options import ProphetNetConfig
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import LearnedPositions
from eir_seq.models.layers.positions.position_ids import ArangePositionIds
from eir_seq.models.layers.residual import LayerPlan, PostNorm


class LastRowPositions(LearnedPositions):
    """Learned vectors; positions beyond the table have that of its last row."""

    class Config(LearnedPositions.Config):
        """The same."""

        def build(self, size: int) -> LastRowPositions:
            """A table of vectors of width `size`."""
            return LastRowPositions(self.count, size)

    def rows(self, positions: Tensor) -> Tensor:
        """Position ids -> the rows of their vectors."""
        return positions.clamp(max=self.num_embeddings - 1)


class StreamEmbeddings(Embeddings):
    """First states of the text and, after them, of the streams that predict it: a vector per stream and position."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Embeddings.Config):
        """`streams`: those that predict."""

        streams: int

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.streams = nn.Embedding(config.streams, config.hidden_size)

    def forward(
        self,
        ids: Tensor | None,
        vectors: Tensor | None,
        positions: Tensor,
        segments: Tensor | None,
        features: dict[str, Tensor],  # noqa: ARG002
    ) -> Tensor:
        """Token ids (batch, length) or vectors, and position ids -> (batch, (1 + streams) * length, hidden)."""
        assert self.positions is not None
        assert self.norm is not None
        x = self.token_vectors(ids, vectors, segments) + self.positions(positions)
        own = self.streams.weight.roll(1, 0)[:, None]  # the first stream has the last row, as published
        predicting = (own + self.positions(positions + 1)[:, None]).flatten(1, 2)
        return self.dropout(self.norm(torch.cat((x, predicting.to(x.dtype)), 1)))


def _attention(c: ProphetNetConfig, heads: int, **more: Any) -> dict[str, Any]:
    return {"hidden_size": c.hidden_size, "num_heads": heads, "dropout": c.attention_dropout, **more}


def _layers(
    c: ProphetNetConfig, count: int, mixer: Attention.Config, inner_size: int, cross: Attention.Config | None = None
) -> tuple[LayerPlan, ...]:
    layer = LayerPlan(
        residual=PostNorm,
        hidden_size=c.hidden_size,
        norm=LayerNorm.Config(),
        mixer=mixer,
        cross=cross,
        mlp=Mlp.Config(
            hidden_size=c.hidden_size,
            inner_size=inner_size,
            activation=c.activation_function,
            inner_dropout=c.activation_dropout,
        ),
        dropout=c.dropout,
    )
    return (layer,) * count


def _embeddings(c: ProphetNetConfig) -> dict[str, Any]:
    return {
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "positions": LastRowPositions.Config(
            count=c.max_position_embeddings, numbering=ArangePositionIds(offset=c.pad_token_id + 1)
        ),
        "norm": LayerNorm.Config(),
        "padding_id": c.pad_token_id,
        "dropout": c.dropout,
    }


def encoder_plan(c: ProphetNetConfig) -> StackPlan:
    """A post-norm encoder."""
    mixer = Attention.Config(**_attention(c, c.num_encoder_attention_heads))
    return StackPlan(
        embeddings=Embeddings.Config(**_embeddings(c)),
        layers=_layers(c, c.num_encoder_layers, mixer, c.encoder_ffn_dim),
    )


def decoder_plan(c: ProphetNetConfig, *, crosses: bool | None = None) -> NgramPlan:
    """The decoder; `crosses`: whether it attends to given states, by default as the options say."""
    heads = c.num_decoder_attention_heads
    mixer = NgramAttention.Config(
        **_attention(c, heads, causal=True),
        streams=1 + c.ngram,
        num_buckets=c.num_buckets,
        max_distance=c.relative_max_distance,
        mixes_biases=c.published_bias_order,
    )
    cross = Attention.Config(**_attention(c, heads, memory_size=c.hidden_size))
    return NgramPlan(
        embeddings=StreamEmbeddings.Config(**_embeddings(c), streams=c.ngram),
        layers=_layers(
            c,
            c.num_decoder_layers,
            mixer,
            c.decoder_ffn_dim,
            cross if (c.add_cross_attention if crosses is None else crosses) else None,
        ),
        cached=c.use_cache,
        streams=1 + c.ngram,
    )


def plan(c: ProphetNetConfig) -> EncoderDecoderPlan:
    """Both sides with one token table."""
    return EncoderDecoderPlan(encoder=encoder_plan(c), decoder=decoder_plan(c, crosses=True))


def side_rows(count: int, prefix: str, native: str) -> Iterator[Row]:
    """The key map of one side."""
    yield Same(f"{prefix}word_embeddings", f"{native}embeddings.tokens")
    yield Same(f"{prefix}position_embeddings", f"{native}embeddings.positions")
    yield Same(f"{prefix}ngram_embeddings", f"{native}embeddings.streams")
    yield Same(f"{prefix}embeddings_layer_norm", f"{native}embeddings.norm")
    published, own = f"{prefix}layers.{{i}}.", f"{native}layers.{{i}}."
    attentions = (("self_attn", "mixer"), ("cross_attn", "cross"))
    yield from for_layers(
        count,
        *(
            Same(f"{published}{attention}.{part}_proj", f"{own}{mixer}.{part}")
            for attention, mixer in attentions
            for part in ("query", "key", "value", "out")
        ),
        *(Same(f"{published}{attention}_layer_norm", f"{own}{mixer}_norm") for attention, mixer in attentions),
        Same(f"{published}self_attn.relative_pos_embeddings", f"{own}mixer.biases"),
        Same(f"{published}feed_forward.intermediate", f"{own}mlp.up"),
        Same(f"{published}feed_forward.output", f"{own}mlp.down"),
        Same(f"{published}feed_forward_layer_norm", f"{own}mlp_norm"),
    )


def rows(c: ProphetNetConfig) -> Iterator[Row]:
    """The key map of both sides; files hold any name of the one token table."""
    yield Same("word_embeddings", "encoder.embeddings.tokens")
    yield from side_rows(c.num_encoder_layers, "encoder.", "encoder.")
    yield from side_rows(c.num_decoder_layers, "decoder.", "decoder.")


def encoder_rows(c: ProphetNetConfig) -> Iterator[Row]:
    """The key map of the encoder alone."""
    yield from side_rows(c.num_encoder_layers, "", "")


def decoder_rows(c: ProphetNetConfig) -> Iterator[Row]:
    """The key map of the decoder alone, which files of both sides may hold."""
    yield Same("word_embeddings", "embeddings.tokens")
    yield from side_rows(c.num_decoder_layers, "decoder.", "")


def _head(c: ProphetNetConfig, predicts: Literal["target", "hidden"]) -> NgramLanguageModel.Config:
    return NgramLanguageModel.Config.of(
        c,
        predicts=predicts,
        padding_id=c.pad_token_id,
        decoder_start_id=c.decoder_start_token_id if predicts == "target" else None,
        streams=c.ngram,
        first_only=c.disable_ngram_loss,
        smoothing=c.eps,
    )


def _architecture(family: str) -> Architecture:
    scores = (Same("lm_head", "out"),)
    heads = {
        "encoder": TaskHead(
            "Encoder",
            None,
            plan=encoder_plan,
            body_rows=encoder_rows,
            prefix="",
            prefixes=("prophetnet.encoder", "encoder"),
        ),
        "seq2seq-lm": TaskHead("ForConditionalGeneration", partial(_head, predicts="target"), scores),
        "causal-lm": TaskHead(
            "ForCausalLM", partial(_head, predicts="hidden"), scores, plan=decoder_plan, body_rows=decoder_rows
        ),
    }
    return Architecture(
        tasks=declare_tasks(family, "prophetnet", plan, rows, heads),
        prefixes=("prophetnet",),
        initialization=lambda c: Initialization(c.init_std),
    )


PROPHETNET = _architecture("ProphetNet")
XLM_PROPHETNET = _architecture("XLMProphetNet")
