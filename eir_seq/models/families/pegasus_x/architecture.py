"""Pegasus_x (https://arxiv.org/abs/2208.04347): pegasus whose encoder reads blocks of long texts, and global tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.bart.architecture import Design, bart_layer, bart_like_architecture, bart_like_tasks
from eir_seq.models.families.bart.options import LikeBart
from eir_seq.models.families.pegasus_x.attention import BlockLocalAttention
from eir_seq.models.families.pegasus_x.options import PegasusXConfig
from eir_seq.models.layers.context import Carried, Context
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.positions.absolute import ComputedSinusoids, tensor2tensor_sinusoids
from eir_seq.models.layers.residual import Layer, LayerPlan, PreNorm


class EmbeddingsAndGlobals(Embeddings):
    """Embeddings of tokens, and first states of global tokens that belong to no text."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Embeddings.Config):
        """`num_global_tokens`: how many of them."""

        num_global_tokens: int

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.global_tokens = nn.Embedding(config.num_global_tokens, config.hidden_size)


@dataclass
class GlobalStream(Carried):
    """States (batch, globals, hidden) of the global tokens, as the last layer left them."""

    states: Tensor


class WithGlobalTokens(PreNorm):
    """A layer for tokens and global tokens, which share all but the first norm."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__(plan)
        self.global_norm = plan.norm.build(plan.hidden_size)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same; those of global tokens stay in the context."""
        first = ctx.embeddings.global_tokens.weight
        stream = ctx.once("globals", lambda: GlobalStream(first.expand(ctx.layout.batch, -1, -1)))
        if self.skips():
            return x
        mixed, shared = self.mixer(self.mixer_norm(x), self.global_norm(stream.states), ctx)
        shared = stream.states + self.mixer_dropout(shared)
        stream.states = shared + self.dropout(self.mlp(self.mlp_norm(shared)))
        x = x + self.mixer_dropout(mixed)
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


def _layer(c: PegasusXConfig, residual: type[Layer], number: int, *, decoder: bool) -> LayerPlan:
    layer: Any = bart_layer(c, residual, number, decoder=decoder)
    if decoder:
        mixer, cross = (replace(part, bias=False, out_bias=False) for part in (layer.mixer, layer.cross))
        return replace(layer, mixer=mixer, cross=cross)
    staggered = BlockLocalAttention.Config(
        hidden_size=c.d_model,
        num_heads=c.encoder_attention_heads,
        size=c.block_size,
        shift=c.block_size // 2 if c.stagger_local_blocks and number % 2 else 0,
        dropout=c.attention_dropout,
    )
    return replace(layer, residual=WithGlobalTokens, mixer=staggered)


@dataclass(frozen=True, kw_only=True)
class WithGlobals(Design):
    """A design whose encoder has global tokens."""

    def stack(self, c: LikeBart, *, decoder: bool) -> StackPlan:
        """One side."""
        assert isinstance(c, PegasusXConfig)
        stack = super().stack(c, decoder=decoder)
        if decoder:
            return stack
        embeddings: Any = stack.embeddings
        # as published, padding before a text moves its blocks
        return replace(
            stack,
            embeddings=EmbeddingsAndGlobals.Config(**vars(embeddings), num_global_tokens=c.num_global_tokens),
            packs_right_padding_only=True,
        )

    def side_rows(self, c: LikeBart, published: str, native: str, *, decoder: bool) -> Iterator[Row]:
        """The key map of one side."""
        yield from super().side_rows(c, published, native, decoder=decoder)
        if not decoder:
            yield Same(f"{published}embed_global", f"{native}embeddings.global_tokens")
            norm = Same(f"{published}layers.{{i}}.global_self_attn_layer_norm", f"{native}layers.{{i}}.global_norm")
            yield from for_layers(c.encoder_layers, norm)


def _positions(c: PegasusXConfig) -> ComputedSinusoids:  # noqa: ARG001
    return ComputedSinusoids(sinusoids=tensor2tensor_sinusoids)


_TASKS = bart_like_tasks(
    "PegasusX",
    WithGlobals(
        residual=PreNorm,
        normed_embeddings=False,
        final_norm=True,
        positions=_positions,
        logits_bias=False,
        layer=_layer,
    ),
)
PEGASUS_X = bart_like_architecture({name: task for name, task in _TASKS.items() if name != "causal-lm"})
