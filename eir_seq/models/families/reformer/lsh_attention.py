"""Attention within chunks of tokens that are near, or of like hashes (Reformer, https://arxiv.org/abs/2001.04451).

Each chunk attends to itself and to some chunks around it, those at the ends of the text at the other end. Chunks of the
text itself cost time and memory linear in the length, chunks of tokens sorted by hashes one sort more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.linear import Linear


class LocalSelfAttention(Configured):
    """Attention within chunks of the text and to those around them."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`chunk`: tokens of a chunk; `before`, `after`: chunks around its own that a token attends to.

        `least`, `multiple`: texts longer than the one are filled up to a multiple of the other, for all layers alike;
        texts of at most one chunk get full attention.
        """

        hidden_size: int
        num_heads: int
        head_size: int
        chunk: int
        before: int
        after: int
        least: int
        multiple: int
        causal: bool = False
        dropout: float = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        inner = config.num_heads * config.head_size
        self.key = Linear(config.hidden_size, inner, bias=False)
        self.value = Linear(config.hidden_size, inner, bias=False)
        self.out = Linear(inner, config.hidden_size, bias=False)
        self._make_query(inner)

    def _make_query(self, inner: int) -> None:
        self.query = Linear(self.config.hidden_size, inner, bias=False)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        x = ctx.layout.pad(x)
        length = x.shape[1]
        x = F.pad(x, (0, 0, 0, self._filled(length) - length))
        mixed, weights = self._mix(x, self._real(x, ctx), ctx)
        if ctx.head_mask is not None:
            mixed = mixed * ctx.head_mask[:, None, None]
            weights = weights * ctx.head_mask.view(-1, *(1,) * (weights.dim() - 2))
        if ctx.attentions is not None:
            ctx.attentions.append(weights)
        mixed = mixed.transpose(1, 2).flatten(2)
        if torch.compiler.is_exporting():  # a slice would tie the graph to whether chunks fill the example
            return self.out(mixed.index_select(1, torch.arange(length, device=x.device)))
        return self.out(ctx.layout.pack(mixed[:, :length]))

    def _filled(self, length: int) -> int:
        """Tokens of a text that chunks fill."""
        config = self.config
        return length if length <= config.least else length + -length % config.multiple

    @staticmethod
    def _real(x: Tensor, ctx: Context) -> Tensor:
        """(batch, tokens) bool, False after the text."""
        layout = ctx.layout
        mask = x.new_ones(layout.batch, layout.length, dtype=torch.bool) if layout.mask is None else layout.mask
        return F.pad(mask, (0, x.shape[1] - layout.length))

    def _mix(self, x: Tensor, real: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        """States (batch, tokens, hidden) -> (batch, heads, tokens, head_size) and the weights, chunk by chunk."""
        query, key, value = (self._heads(part(x)) for part in (self.query, self.key, self.value))
        key = key / math.sqrt(self.config.head_size)
        places = torch.arange(x.shape[1], device=x.device).expand(*key.shape[:2], -1)
        mixed, weights, _ = self._chunked(query, key, value, places, real, None, whole=self._sees_all(x.shape[1], ctx))
        return mixed, weights

    def _sees_all(self, length: int, ctx: Context) -> bool:
        """Whether a token of such a text attends to each token once, so that nothing need be cut."""
        config = self.config
        around = config.chunk * (1 + config.before + config.after)
        return length <= config.chunk or (length == around and ctx.attentions is None)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2)

    def _chunked(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        places: Tensor,
        real: Tensor,
        itself: float | None,
        *,
        whole: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attention of (batch, heads, tokens, head_size), whose tokens are at `places` (batch, heads, tokens).

        `itself`: score of a token with itself, where it is not that of its query and key. `whole`: all attend to all.
        Returns the weighted sums, the weights and the logarithms (batch, heads, tokens) of what they were divided by.
        """
        chunk, around = self.config.chunk, places
        if not whole:
            query, key, value, places = (x.unflatten(2, (-1, chunk)) for x in (query, key, value, places))
            key, value, around = (self._neighbourhood(x) for x in (key, value, places))
        look = real[:, None].expand(-1, places.shape[1], -1).gather(2, around.flatten(2)).view_as(around)
        look = look.unsqueeze(-2)
        if self.config.causal:
            look = look & (places.unsqueeze(-1) >= around.unsqueeze(-2))
        half = query.dtype == torch.float16
        scores = torch.where(look, query @ key.transpose(-1, -2), -1e4 if half else -1e9)
        if itself is not None:
            scores = scores.masked_fill(places.unsqueeze(-1) == around.unsqueeze(-2), itself)
        total = scores.logsumexp(-1, keepdim=True)
        weights = F.dropout((scores - total).exp(), self.config.dropout, self.training)
        mixed, total = weights.to(value.dtype) @ value, total.squeeze(-1)
        return (mixed, weights, total) if whole else (mixed.flatten(2, 3), weights, total.flatten(2))

    def _neighbourhood(self, x: Tensor) -> Tensor:
        """(batch, heads, chunks, chunk, ...) -> the same with what each chunk attends to, the ends look around."""
        steps = range(-self.config.before, self.config.after + 1)
        return torch.cat([torch.cat((x[:, :, i:], x[:, :, :i]), 2) if i else x for i in steps], 3)


class LshSelfAttention(LocalSelfAttention):
    """Attention within chunks of tokens sorted by hashes of their keys, which are their queries too.

    A token attends to itself only where there is nothing else.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(LocalSelfAttention.Config):
        """`hashes`: how often tokens are hashed; `buckets`: different hashes, or factors of that number.

        By default their number follows from the length, up to a limit by the longest text `max_positions`. `seed`: of
        the hashes; without it they are drawn at each call.
        """

        hashes: int
        buckets: int | tuple[int, ...] | None
        max_positions: int
        seed: int | None = None

    config: Config

    def _make_query(self, inner: int) -> None:
        pass

    def _mix(self, x: Tensor, real: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        key, value = self._heads(self.key(x)), self._heads(self.value(x))
        length, hashes = x.shape[1], int(ctx.features.get("num_hashes", self.config.hashes))
        if hashes < 1:
            raise ValueError(f"num_hashes: {hashes} is less than 1: tokens are hashed at least once")
        itself = -1e3 if key.dtype == torch.float16 else -1e5
        if length <= self.config.chunk or (hashes == 1 and self._sees_all(length, ctx)):
            places = torch.arange(length, device=x.device).expand(*key.shape[:2], -1)
            mixed, weights, _ = self._chunked(key, self._unit(key), value, places, real, itself, whole=True)
            return mixed, weights
        order = self._order(key.detach(), hashes, real, ctx)
        places = order % length
        rows = places[..., None].expand(-1, -1, -1, key.shape[-1])
        key, value = key.gather(2, rows), value.gather(2, rows)
        mixed, weights, total = self._chunked(key, self._unit(key), value, places, real, itself, whole=False)
        back = order.argsort(-1)
        mixed = mixed.gather(2, back[..., None].expand_as(mixed)).unflatten(2, (hashes, length))
        total = total.gather(2, back).unflatten(2, (hashes, length))
        share = (total - total.logsumexp(2, keepdim=True)).exp()  # as published: softmax rounds scores of -1e5 less
        return (mixed * share[..., None].to(mixed.dtype)).sum(2), weights

    def _unit(self, key: Tensor) -> Tensor:
        """Keys of one length."""
        return key * torch.rsqrt(key.square().mean(-1, keepdim=True) + 1e-6) / math.sqrt(self.config.head_size)

    def _order(self, key: Tensor, hashes: int, real: Tensor, ctx: Context) -> Tensor:
        """See `order_by_hashes`. A second pass over the same text, for its gradients, must find the same buckets."""
        c = self.config
        buckets = [c.buckets] if isinstance(c.buckets, int) else list(c.buckets or ())
        if torch.compiler.is_exporting():  # the number of buckets follows from the length
            order: Tensor = _order_of_graph(key, real, hashes, buckets, c.chunk, c.max_positions, c.seed)
            return order
        factors = tuple(buckets) or _factors(key.shape[2], c.chunk, c.max_positions)
        rotations = _rotations(key, hashes, factors, c.seed)  # drawn in a second pass, too: dropout comes after
        return ctx.once((self, "order"), lambda: order_by_hashes(key, real, factors, rotations))


def order_by_hashes(key: Tensor, real: Tensor, factors: tuple[int, ...], rotations: Tensor) -> Tensor:
    """Tokens of (batch, heads, tokens, head_size) keys, hash by hash sorted by bucket; padding comes last.

    Args:
        real: (batch, tokens) bool, False at padding.
        factors: of the number of buckets.
        rotations: (heads, head_size, hashes, half of the sum of the factors) random directions.

    Returns:
        (batch, heads, hashes * tokens) numbers: hash * tokens + place of the token.
    """
    rotated = torch.einsum("bhtd,hdnr->bhntr", key, rotations)
    bucket, product = torch.zeros_like(rotated[..., 0], dtype=torch.long), 1
    for factor, part in zip(factors, rotated.split([factor // 2 for factor in factors], -1), strict=True):
        bucket = bucket + product * torch.cat((part, -part), -1).argmax(-1)
        product *= factor
    bucket = bucket.masked_fill(~real[:, None, None], product)
    rounds = torch.arange(bucket.shape[2], device=key.device)[:, None] * (product + 1)
    return (bucket + rounds).flatten(2).argsort(dim=-1, stable=True)


def _rotations(key: Tensor, hashes: int, factors: tuple[int, ...], seed: int | None) -> Tensor:
    shape = (key.shape[1], key.shape[3], hashes, sum(factors) // 2)
    if seed is None:
        return torch.randn(shape, device=key.device, dtype=key.dtype)
    return _seeded(seed, shape, key.device, key.dtype)


def _factors(length: int, chunk: int, max_positions: int) -> tuple[int, ...]:
    """Factors of the number of buckets of a text."""
    power = (2 * (length // chunk)).bit_length() - 1
    limit = 2 * max(int((max_positions // chunk) ** 0.5), chunk)
    return (2**power,) if 2**power <= limit else (2 ** (power // 2), 2 ** (power - power // 2))


@torch.library.custom_op("eir_seq::order_by_hashes", mutates_args=())
def _order_of_graph(
    key: Tensor, real: Tensor, hashes: int, buckets: Sequence[int], chunk: int, max_positions: int, seed: int | None
) -> Tensor:
    """See `order_by_hashes`; `buckets`: the factors, of none they follow from the length."""
    factors = tuple(buckets) or _factors(key.shape[2], chunk, max_positions)
    return order_by_hashes(key, real, factors, _rotations(key, hashes, factors, seed))


@_order_of_graph.register_fake
def _(
    key: Tensor,
    real: Tensor,  # noqa: ARG001
    hashes: int,
    buckets: Sequence[int],  # noqa: ARG001
    chunk: int,  # noqa: ARG001
    max_positions: int,  # noqa: ARG001
    seed: int | None,  # noqa: ARG001
) -> Tensor:
    return key.new_empty(key.shape[0], key.shape[1], hashes * key.shape[2], dtype=torch.long)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _seeded(seed: int, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Normal numbers of one seed, which is not that of anything else."""
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device, dtype=dtype)
