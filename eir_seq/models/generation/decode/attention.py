"""Attention of one token per text to all earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.generation.decode.copies import Copies
from eir_seq.models.generation.decode.past import Kept, Past
from eir_seq.models.generation.decode.products import Few, joined
from eir_seq.models.layers.attention.dot_product import FLEX, SDPA
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.attention.scorer import Scorer
from eir_seq.models.layers.cache import Cache
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.positions.rotary import Rotary

AHEAD = 32
"""Positions whose rotations are made together."""


@dataclass(kw_only=True)
class TokenContext(Context):
    """A pass over one token per row.

    Attributes:
        past: earlier tokens of all layers whose attention is a `TokenAttention`.
        memory_hidden: (texts, 1, 1, memory) what is added to the scores of cross-attention; None: all is real.
        lasting: what is kept from step to step, see `rotation` and `of_weights`.
    """

    past: Past
    memory_hidden: Tensor | None = None
    lasting: dict[Any, Any] = field(default_factory=dict)

    def of_weights(self, key: Any, make: Callable[[], Any]) -> Any:
        """See `Context`; here for all steps."""
        if key not in self.lasting:
            self.lasting[key] = make()
        return self.lasting[key]

    def rotation(self, rotary: Rotary, size: int) -> Tensor:
        """(head_size, head_size), or (rows, ...) where positions differ: x times it is x rotated."""
        return self.once(("rotation", rotary, size), lambda: self._rotation(rotary, size))

    def _rotation(self, rotary: Rotary, size: int) -> Tensor:
        if self.positions.stride(0) and len(self.positions) > 1:
            return _matrices(rotary, size, self.positions, self.longest)[:, 0]
        place = self.positions[:1]
        if rotary.scaling is not None or place.device.type != "cpu":  # may depend on the length; costs no look at it
            return _matrices(rotary, size, place, self.longest)[0, 0]
        now = int(place)
        first, made = self.lasting.get((rotary, size), (now + 1, place))
        if not 0 <= now - first < len(made):
            first, made = now, _matrices(rotary, size, place + torch.arange(AHEAD), self.longest)[0]
            self.lasting[rotary, size] = first, made
        return made[now - first]


def _matrices(rotary: Rotary, size: int, positions: Tensor, longest: Tensor) -> Tensor:
    """Position ids (rows, n) -> (rows, n, head_size, head_size): rotations are linear."""
    unit = torch.eye(size, device=positions.device).expand(*positions.shape, -1, -1)
    return rotary.rotate(unit, *rotary.tables(positions, size, longest))


class TokenAttention(Attention):
    """A copy of attention that has one product for queries, keys and values, and writes keys in place."""

    together: Callable[[Tensor], Tensor]
    kept: Kept

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        if not isinstance(ctx, TokenContext):
            return super().forward(x, ctx)
        heads = self.query(x) if self.crosses else self.together(x)
        return self.out(self.attend(heads.flatten(0, 1), ctx)[:, None])

    @property
    def projections(self) -> Sequence[Linear]:
        """The layers that read its input."""
        return [self.query] if self.crosses else [self.query, self.key, self.value]

    @cached_property
    def shared(self) -> int:
        """Heads of keys and values."""
        return self.config.num_kv_heads or self.config.num_heads

    def attend(self, x: Tensor, ctx: TokenContext) -> Tensor:
        """Heads side by side, queries and, where they are kept, keys and values after them -> (rows, heads)."""
        past, config, own, shared = ctx.past, self.config, self.config.num_heads, self.shared
        if self.crosses:
            query = self.query_norm(x).view(len(x), own, self.head_size)
            key, value = self.kept.store.unbind(0)
        else:
            heads = x.view(len(x), own + 2 * shared, self.head_size)
            if config.head_norm is not None:
                for norm, first, count in ((self.query_norm, 0, own), (self.key_norm, own, shared)):
                    part = heads.narrow(1, first, count)
                    part.copy_(norm(part.flatten(1)).view(part.shape))
            if config.rotary is not None:
                turned = heads.narrow(1, 0, own + shared)
                rotation = ctx.rotation(config.rotary, self.head_size)
                turned.copy_(turned.to(rotation.dtype) @ rotation)
            query = heads.narrow(1, 0, own)
            key, value = self.kept.add(heads.narrow(1, own, 2 * shared), past)
        query = past.folded(query, shared)
        mixed = F.scaled_dot_product_attention(query, key, value, self._over_keys(ctx), scale=self.scale)
        return past.unfolded(mixed)

    @cached_property
    def added_key(self) -> Any:
        """Equal for layers to whose scores the same is added."""
        config, groups = self.config, self.config.num_heads // self.shared
        if self.crosses:
            return "memory"
        scale = self.scale if config.alibi is not None else None
        return "added", config.alibi, config.num_heads, scale, groups

    def added(self, ctx: TokenContext) -> Tensor | None:
        """What is added to the scores, once for all layers that agree on it."""
        return ctx.memory_hidden if self.crosses else ctx.once(self.added_key, lambda: self._added(ctx))

    @property
    def seen_key(self) -> Any:
        """That of `seen` in the memo of a context."""
        return "seen", self.added_key

    def seen(self, ctx: TokenContext) -> Tensor:
        """What is added to the scores of all columns that are read, where room is fixed."""
        return ctx.once(self.seen_key, lambda: ctx.past.over_seen(self.added(ctx)))

    def _over_keys(self, ctx: TokenContext) -> Tensor | None:
        return self.added(ctx) if self.crosses or ctx.past.room is None else self.seen(ctx)

    def _added(self, ctx: TokenContext) -> Tensor | None:
        past, config, shared = ctx.past, self.config, self.shared
        if ctx.bias is None and config.alibi is None:
            return past.mask(config.num_heads // shared)
        bias = self._bias(ctx)
        assert bias is not None
        like = self.kept.store[0, :, :, :1]  # only its shape is read
        return past.biased(bias(like, like[:, :, :1].expand(-1, -1, past.tokens, -1)), shared)

    def take(self, cache: Cache, past: Past) -> None:
        """Keep what the first pass left in the cache: nothing where a decoder alone has cross-attention."""
        if (found := cache.release(self)) is not None:
            key, value = (x.transpose(1, 2) for x in found) if self.crosses else found
            self.kept = past.keep(key, value, grows=not self.crosses)


def token_attention(attention: Attention, copies: Copies, few: Few, longest: int) -> TokenAttention | None:
    """The copy of an attention; None where it is of a kind that sees or weighs keys in other ways.

    Args:
        attention: of this class itself.
        longest: tokens of a text at its end.
    """
    config = attention.config
    sees_all = attention.crosses or (config.causal and (config.window is None or config.window >= longest))
    plain = type(config.scorer).attend is Scorer.attend and attention.distances is None
    if not (sees_all and plain and attention.attn_implementation in (SDPA, FLEX)):
        return None
    copy: TokenAttention = copies.plain(attention, TokenAttention)
    if not attention.crosses:
        copy.together = joined(copy.projections, few)
    return copy
