"""A decoder of a text after a prefix of other tokens, such as the patches of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.backbones.joined import GivenStates, OtherTokens, first_states, known
from eir_seq.models.backbones.stack import Stack, StackPlan
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.attention.scorer import Pairs
from eir_seq.models.layers.build import Part
from eir_seq.models.layers.cache import Cache
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.embeddings import EmbeddingsPlan
from eir_seq.models.output import ModelOutput

PREFIX = "prefix"
"""Under this name mixers find the states of the prefix in the context while the prefix itself is read."""
PREFIX_KEYS = "prefix_keys"
"""And under this one a cache of its keys and values, while a text is read that is not cached itself."""


class PrefixedAttention(Attention):
    """Causal attention in which the tokens of a prefix all see each other, and a text sees all of them."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """See `Attention.Config`."""

        causal: bool = True

    def _causal(self, ctx: Context) -> bool:
        return super()._causal(ctx) and PREFIX not in ctx.features

    def _prefixed(self, key: Tensor, value: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        if (before := self._prefix_keys(ctx)) is None:
            return super()._prefixed(key, value, ctx)
        return torch.cat((before[0], key), 2), torch.cat((before[1], value), 2)

    def _attend_packed(self, query: Tensor, key: Tensor, value: Tensor, ctx: Context, dropout: float) -> Tensor:
        if (before := self._prefix_keys(ctx)) is None:
            return super()._attend_packed(query, key, value, ctx, dropout)
        lengths, count = ctx.layout.lengths, before[0].shape[2]
        future = ctx.once("future", lambda: _future(max(lengths), count, query))
        bias_of, mixed = self._bias(ctx), []
        for row, text in enumerate(zip(*(x.split(lengths) for x in (query, key, value)), strict=True)):
            q, *own = (x.transpose(0, 1) for x in text)
            k, v = (torch.cat((x[row], y), 1)[None] for x, y in zip(before, own, strict=True))
            bias = future[: q.shape[1], : k.shape[2]]
            if bias_of is not None:
                bias = bias + bias_of(q[None], k)
            out = self.config.scorer.attend(self, q[None], k, v, Pairs(bias=bias, dropout=dropout))
            mixed.append(out[0].transpose(0, 1))
        return torch.cat(mixed).flatten(1)

    def _prefix_keys(self, ctx: Context) -> tuple[Tensor, Tensor] | None:
        """Keys and values (batch, heads, tokens, head_size) of the prefix of a text that is not cached."""
        cache: Any = ctx.features.get(PREFIX_KEYS)
        return None if cache is None else cache.read(self)


def _future(length: int, count: int, like: Tensor) -> Tensor:
    """(length, count + length): the lowest number where a key comes after its query, zero elsewhere.

    `count` keys come before the first query.
    """
    later = torch.ones(length, count + length, dtype=torch.bool, device=like.device).triu(count + 1)
    return like.new_zeros(later.shape).masked_fill(later, torch.finfo(like.dtype).min)


@dataclass(frozen=True, kw_only=True)
class PrefixedPlan:
    """`encoder` reads the other tokens by themselves, and `layers` read what `prefix` makes of them before a text.

    `prefix`: its module is called with the given inputs and the encoder. `cached`: layers can continue from a cache.
    """

    embeddings: EmbeddingsPlan
    prefix: OtherTokens
    encoder: StackPlan
    layers: tuple[Part, ...]
    cached: bool = True

    @property
    def hidden_size(self) -> int:
        """Width of the states."""
        return self.embeddings.hidden_size

    @property
    def inputs(self) -> tuple[str, ...]:
        """Documented inputs of the architecture itself."""
        return (*self.embeddings.features, *self.prefix.features)

    def build(self) -> Prefixed:
        """The backbone."""
        return Prefixed(self)


class Prefixed(nn.Module):
    """The prefix never sees the text, so it is read first, into a cache from which the text continues.

    Without a cache of its own, the text is packed. States and attention weights cover the prefix and the text, in this
    order. Where a pass continues from a cache that holds a text, the prefix is in it and is not read again.
    """

    def __init__(self, plan: PrefixedPlan) -> None:
        super().__init__()
        self.plan = plan
        self.embeddings: Any = plan.embeddings.build()
        self.embeddings.prefix = plan.prefix.build()
        self.encoder: Stack = plan.encoder.build()
        given = GivenStates.Config(plan.hidden_size)
        self.decoder: Stack = StackPlan(
            embeddings=given,
            layers=plan.layers,
            features=(PREFIX, PREFIX_KEYS),
            cached=plan.cached,
            packs_right_padding_only=True,  # as published, distances to the prefix count the padding in between
        ).build()

    @property
    def pack(self) -> bool:
        """Whether padding is left out of the computation."""
        return self.decoder.pack

    @pack.setter
    def pack(self, pack: bool) -> None:
        self.decoder.pack = pack

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        head_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        **features: Any,
    ) -> ModelOutput:
        """One pass, see `Stack.forward` for arguments and errors; `features` are those of the prefix.

        Raises:
            ValueError: as many prefixes as texts are needed.
        """
        cache = past_key_values
        features = known(features, self.plan.inputs)
        start = 0 if cache is None else cache.length
        x = first_states(self.embeddings, input_ids, inputs_embeds, attention_mask, position_ids, start=start)
        wanted: dict[str, Any] = {
            "head_mask": head_mask,
            "output_hidden_states": output_hidden_states,
            "output_attentions": output_attentions,
        }
        prefix: Tensor | None = None if start else self.embeddings.prefix(features, self.encoder)
        if prefix is None:
            text: ModelOutput = self.decoder(
                attention_mask=attention_mask, inputs_embeds=x, past_key_values=cache, use_cache=use_cache, **wanted
            )
            return text
        if prefix.shape[0] != x.shape[0]:
            raise ValueError(f"{prefix.shape[0]} prefixes (images, videos) are given for {x.shape[0]} texts")
        kept = cache is not None or bool(use_cache and self.plan.cached)
        if cache is None:
            cache = Cache()
        before = self.decoder(inputs_embeds=prefix, past_key_values=cache, **{PREFIX: prefix}, **wanted)
        cache.length = 0  # of the text: the prefix has neither positions nor a mask of it
        after: dict[str, Any] = {"past_key_values" if kept else PREFIX_KEYS: cache}
        output = self.decoder(attention_mask=attention_mask, inputs_embeds=x, **after, **wanted)
        return ModelOutput.of(
            last_hidden_state=torch.cat((before.last_hidden_state, output.last_hidden_state), 1),
            past_key_values=cache if kept else None,
            hidden_states=_joined(before.hidden_states, output.hidden_states, 1),
            attentions=_joined(_unseen(before.attentions, x.shape[1]), output.attentions, 2),
        )


def _joined(
    first: tuple[Tensor, ...] | None, second: tuple[Tensor, ...] | None, dimension: int
) -> tuple[Tensor, ...] | None:
    if first is None or second is None:
        return None
    return tuple(torch.cat(pair, dimension) for pair in zip(first, second, strict=True))


def _unseen(weights: tuple[Tensor, ...] | None, keys: int) -> tuple[Tensor, ...] | None:
    """Attention weights with zeros for `keys` more keys at the end."""
    return None if weights is None else tuple(F.pad(x, (0, keys)) for x in weights)
