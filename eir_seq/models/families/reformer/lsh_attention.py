"""Attention within chunks of tokens that are near, or of like hashes (Reformer, https://arxiv.org/abs/2001.04451).

Each chunk attends to itself and to some chunks around it, those at the ends of the text at the other end. Chunks of the
text itself cost time and memory linear in the length, chunks of tokens sorted by hashes one sort more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from eir_seq.models.families.reformer.chunks import Chunks
from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import drop
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.precision import LEAST_EXPONENT, at_least_float32


class _Softmax(torch.autograd.Function):
    """Softmax over the last dimension, and the logarithms of what it divides by.

    As published, these are rounded as large scores are, and weights with them.
    """

    @staticmethod
    def forward(scores: Tensor) -> tuple[Tensor, Tensor]:
        most = scores.amax(-1, keepdim=True)
        weights = (scores - most).clamp_(min=LEAST_EXPONENT).exp_()
        total = weights.sum(-1, keepdim=True).log_().add_(most)
        return weights.mul_((most - total).exp_()), total.squeeze(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:  # noqa: ARG004
        ctx.save_for_backward(output[0])
        ctx.set_materialize_grads(False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_weights: Tensor | None, of_total: Tensor | None) -> Tensor | None:
        (weights,) = ctx.saved_tensors
        found = None
        if of_weights is not None:
            found = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        if of_total is not None:
            of_total = of_total[..., None]
            found = weights * of_total if found is None else found.addcmul_(weights, of_total)
        return found


class Mixed(NamedTuple):
    """Sums of values `states`, their `weights`, and the logarithms `total` of what these were divided by."""

    states: Tensor
    weights: Tensor
    total: Tensor


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
        mixed, weights = self._mix(x, ctx)
        if ctx.head_mask is not None:
            mixed = mixed * ctx.head_mask[:, None]
        if ctx.attentions is not None:
            assert weights is not None
            factors = 1 if ctx.head_mask is None else ctx.head_mask.view(-1, *(1,) * (weights.dim() - 2))
            ctx.attentions.append(weights * factors)
        return self.out(mixed.flatten(-2))

    def _mix(self, x: Tensor, ctx: Context) -> tuple[Tensor, Tensor | None]:
        """States of the context's layout -> (..., heads, head_size) in that layout, and the weights if wanted."""
        query, key, value = (self._heads(part(x)) for part in (self.query, self.key, self.value))
        key = key / math.sqrt(self.config.head_size)
        if self._sees_all(self._filled(ctx.layout.length), ctx):
            return self._whole(query, key, value, ctx, None)
        chunks = self._chunks(ctx, together=False)
        query, key, value = (chunks.spread(x) for x in (query, key, value))
        mixed = self._chunked(query, key, value, chunks)
        return chunks.collect(mixed.states), None if ctx.attentions is None else chunks.by_text(mixed.weights, 1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.config.num_heads, -1))

    def _filled(self, length: int) -> int:
        """Tokens of a text that chunks fill."""
        config = self.config
        return length if length <= config.least else length + -length % config.multiple

    def _sees_all(self, length: int, ctx: Context) -> bool:
        """Whether a token of such a text attends to each token once, so that nothing need be cut."""
        config = self.config
        around = config.chunk * (1 + config.before + config.after)
        return length <= config.chunk or (length == around and ctx.attentions is None)

    def _chunks(self, ctx: Context, *, together: bool) -> Chunks:
        size, filled, device = self.config.chunk, self._filled(ctx.layout.length), ctx.positions.device
        chunks: Chunks = ctx.once(
            ("chunks", size, together), lambda: Chunks.of(ctx.layout, size, filled, device, together=together)
        )
        return chunks

    def _whole(
        self, query: Tensor, key: Tensor, value: Tensor, ctx: Context, itself: float | None
    ) -> tuple[Tensor, Tensor]:
        """(..., heads, head_size) each -> the same, and weights (batch, heads, tokens, tokens): all attend to all."""
        layout = ctx.layout
        length = self._filled(layout.length)
        rows = (F.pad(layout.pad(x), (0, 0, 0, 0, 0, length - layout.length)) for x in (query, key, value))
        query, key, value = (x.transpose(1, 2) for x in rows)
        mask = query.new_ones(layout.batch, layout.length, dtype=torch.bool) if layout.mask is None else layout.mask
        look = F.pad(mask, (0, length - layout.length))[:, None, None]
        place = torch.arange(length, device=query.device)
        mixed = self._weighted(query, key, value, look, place[:, None], place, itself)
        states = mixed.states.transpose(1, 2)
        if torch.compiler.is_exporting():  # a slice would tie the graph to whether chunks fill the example
            return states.index_select(1, torch.arange(layout.length, device=query.device)), mixed.weights
        return layout.pack(states[:, : layout.length]), mixed.weights

    def _chunked(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        chunks: Chunks,
        hashes: int = 1,
        place: Tensor | None = None,
        itself: float | None = None,
    ) -> Mixed:
        """(heads, hashes * chunks, chunk, head_size) each -> sums and weights of each chunk and those around it.

        `place`: (heads, hashes * chunks, chunk), of the tokens in their texts; None: they are in order.
        """
        config = self.config
        around, there = chunks.around(hashes, config.before, config.after)
        look = chunks.real[around % chunks.real.shape[0]] & there[..., None]
        if place is None and config.causal:
            place = chunks.place.view(1, -1, config.chunk)
        near = place
        if config.before + config.after:
            key, value = (x[:, around].flatten(2, 3) for x in (key, value))
            if place is not None:
                near = place[:, around].masked_fill(~there[..., None], -1).flatten(2)
        rows, columns = (None, None) if place is None or near is None else (place[..., None], near[..., None, :])
        return self._weighted(query, key, value, look.flatten(1)[:, None], rows, columns, itself)

    def _weighted(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        look: Tensor,
        rows: Tensor | None,
        columns: Tensor | None,
        itself: float | None,
    ) -> Mixed:
        """Queries see those keys that `look` says, at `columns`, as they are at `rows`.

        `itself`: score of a token with itself, where it is not that of its query and key.
        """
        scores = query @ key.transpose(-1, -2)
        hidden = -1e4 if scores.dtype == torch.float16 else -1e9
        scores = scores.add_(torch.zeros_like(look, dtype=scores.dtype).masked_fill(~look, hidden))
        if self.config.causal:
            assert rows is not None
            assert columns is not None
            scores = scores.masked_fill_(rows < columns, hidden)
        if itself is not None:
            assert rows is not None
            assert columns is not None
            scores = scores.masked_fill_(rows == columns, itself)
        weights, total = _Softmax.apply(at_least_float32(scores))
        dropped = drop(weights, self.config.dropout, self.training)
        return Mixed(dropped.to(value.dtype) @ value, weights, total)


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

    def _mix(self, x: Tensor, ctx: Context) -> tuple[Tensor, Tensor | None]:
        key, value = self._heads(self.key(x)), self._heads(self.value(x))
        hashes = int(ctx.features.get("num_hashes", self.config.hashes))
        if hashes < 1:
            raise ValueError(f"num_hashes: {hashes} is less than 1: tokens are hashed at least once")
        itself = -1e3 if key.dtype == torch.float16 else -1e5
        length = self._filled(ctx.layout.length)
        if length <= self.config.chunk or (hashes == 1 and self._sees_all(length, ctx)):
            return self._whole(key, self._unit(key), value, ctx, itself)
        chunks = self._chunks(ctx, together=True)
        order = chunks.sorted(self._order(key.detach(), hashes, chunks, ctx), hashes)
        query, key, value = (order.spread(x) for x in (key, self._unit(key), value))
        mixed = self._chunked(query, key, value, chunks, hashes, order.place, itself)
        states = order.collect(mixed.states)  # (heads, hashes, tokens, head_size)
        if hashes > 1:
            total = order.collect(mixed.total[..., None])
            share = (total - total.logsumexp(1, keepdim=True)).exp()  # as published: softmax rounds scores of -1e5 less
            states = (states * share.to(states.dtype)).sum(1, keepdim=True)
        weights = None if ctx.attentions is None else chunks.by_text(mixed.weights, hashes)
        return chunks.in_layout(states[:, 0].transpose(0, 1)), weights

    def _unit(self, key: Tensor) -> Tensor:
        """Keys of one length."""
        return key * torch.rsqrt(key.square().mean(-1, keepdim=True) + 1e-6) / math.sqrt(self.config.head_size)

    def _order(self, key: Tensor, hashes: int, chunks: Chunks, ctx: Context) -> Tensor:
        """See `order_by_hashes`. A second pass over the same text, for its gradients, must find the same buckets."""
        c = self.config
        key, real = chunks.padded(key).transpose(1, 2), chunks.mask
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
