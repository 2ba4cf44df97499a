"""Attention by Bernoulli sampling (YOSO, https://arxiv.org/abs/2111.09714): weights are hash collision probabilities.

Queries and keys are unit vectors. A random plane separates two of them with probability angle / pi, so a hash of
`length` planes agrees with probability (1 - angle / pi) ** length. That is the weight of a pair. It is computed for
all pairs (time grows with the square of the length, memory does not), or estimated by hashes: values are summed per
bucket, and every query reads its own bucket, in linear time.

The gradient of queries and keys is the published bound length / 2 * weight * (the other side), as the true one grows
without limit where two vectors agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from eir_seq.models.families.nystromformer.attention import head_convolution
from eir_seq.models.layers.attention.dot_product import EAGER
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.left_aligned import LeftAligned
from eir_seq.models.layers.precision import at_least_float32

LARGEST_BLOCK = 2**17
"""Pairs of tokens whose weights are held at once, over all texts and heads: as many as fit the caches."""
FEWEST_BUCKETED = 4096
"""Tokens of a text from which on buckets cost less than a comparison of the hashes of all pairs."""
CHANNELS = 2
"""Channels of values that weighted sums of buckets take at once: few, so that tables stay in the caches."""
ROTATIONS = 3
"""Signs and Hadamard transforms in turn that stand for a random rotation (https://arxiv.org/abs/1509.02897)."""


def unit(x: Tensor) -> Tensor:
    """Vectors (..., size) at length one; zero stays zero, and its gradient as large as it is."""
    length = x.norm(dim=-1, keepdim=True)
    return x / length.masked_fill(length == 0, 1)


def agreement(query: Tensor, key: Tensor, length: int) -> Tensor:
    """(..., queries, size), (..., keys, size) unit vectors -> the probability that a hash of `length` planes agrees."""
    cosine = query @ key.transpose(-1, -2)
    chance = cosine.clamp_(-1, 1).acos_().mul_(-1 / math.pi).add_(1)
    power = chance.clone() if length & (length - 1) else chance
    for bit in bin(length)[3:]:  # squares from the left: far faster than a general power
        power = power.square_()
        if bit == "1":
            power = power.mul_(chance)
    return power


@dataclass(frozen=True)
class Dropout:
    """Which weights are dropped, redrawn for each block of queries, the same in both passes."""

    rate: float = 0.0
    seed: int = 0

    def __call__(self, weights: Tensor, block: int) -> Tensor:
        """Weights of a block of queries -> those that are left, scaled, in place.

        A weight takes 16 random bits, a quarter of a draw: drawing is most of the work of a dropout.
        """
        if not self.rate:
            return weights
        generator = torch.Generator(weights.device).manual_seed(self.seed + block)
        draws = torch.empty(-(-weights.numel() // 4), dtype=torch.int64, device=weights.device)
        bits = draws.random_(-(2**63), None, generator=generator).view(torch.int16)[: weights.numel()]
        dropped = round(self.rate * 2**16)
        kept = torch.ge(bits.view(weights.shape), dropped - 2**15, out=torch.empty_like(weights))
        return weights.mul_(kept).mul_(1 / max(1 - dropped / 2**16, 2**-16))


def _blocks(
    query: Tensor, key: Tensor, seen: Tensor | None, length: int, dropout: Dropout
) -> Iterator[tuple[slice, Tensor]]:
    """Weights (batch, heads, some queries, keys), block by block, and which queries they are of."""
    most = max(1, LARGEST_BLOCK // max(1, key.shape[0] * key.shape[1] * key.shape[2]))
    for number, start in enumerate(range(0, max(1, query.shape[2]), most)):  # a text may be empty
        rows = slice(start, min(start + most, query.shape[2]))
        weights = agreement(query[:, :, rows], key, length)
        yield rows, dropout(weights if seen is None else weights.mul_(seen[:, None, None]), number)


def _gradients(
    weights: Iterable[tuple[slice, Tensor]], gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of queries, keys and values, by the weights of some queries at a time."""
    of_query, of_key, of_value = (torch.zeros_like(x) for x in (query, key, value))
    for rows, some in weights:
        given = gradient[:, :, rows]
        weighted = (given @ value.transpose(-1, -2)).mul_(some)
        of_query[:, :, rows] = weighted @ key
        of_key += weighted.transpose(-1, -2) @ query[:, :, rows]
        of_value += some.transpose(-1, -2) @ given
    return of_query.mul_(length / 2), of_key.mul_(length / 2), of_value


class _Expected(torch.autograd.Function):
    """Sums of values by their expected weights."""

    @staticmethod
    def forward(
        query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, length: int, dropout: Dropout
    ) -> Tensor:
        """`seen`: (batch, keys) bool, which keys count; None: all."""
        blocks = _blocks(query, key, seen, length, dropout)
        return torch.cat([weights @ value for _, weights in blocks], 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs[:4])
        ctx.length, ctx.dropout = inputs[4:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, seen = ctx.saved_tensors
        weights = _blocks(query, key, seen, ctx.length, ctx.dropout)
        return *_gradients(weights, gradient, query, key, value, ctx.length), None, None, None


def _slots(codes: Tensor, buckets: int) -> Iterator[Tensor]:
    """(batch, heads, length, hashes) -> per hash (batch * heads * length,) rows of a table of buckets."""
    first = torch.arange(codes.shape[0] * codes.shape[1], device=codes.device).view(*codes.shape[:2], 1) * buckets
    for codes_of_hash in codes.unbind(-1):
        yield (first + codes_of_hash).flatten()


def _shares(readers: Tensor, writers: Tensor, buckets: int) -> Iterator[tuple[slice, Tensor]]:
    """(batch, heads, length, hashes) codes -> the share of hashes that agree (batch, heads, some readers, writers)."""
    hashes, most = readers.shape[-1], max(1, LARGEST_BLOCK // max(1, writers[..., 0].numel()))
    kind = torch.int16 if max(hashes, buckets) <= 2**15 else torch.int64  # narrow ones are compared many at once
    reads, writes = (x.movedim(-1, 0).to(kind).contiguous() for x in (readers, writers))
    for start in range(0, max(1, readers.shape[2]), most):
        rows = slice(start, min(start + most, readers.shape[2]))
        agree = torch.zeros(*readers[:, :, rows, 0].shape, writers.shape[2], dtype=kind, device=readers.device)
        same = torch.empty_like(agree)
        for read, write in zip(reads[:, :, :, rows, None], writes[:, :, :, None], strict=True):
            agree += torch.eq(read, write, out=same)  # of its own type: what is true or false takes longer
        yield rows, agree / hashes


def by_buckets(readers: Tensor, writers: Tensor, values: Tensor, buckets: int) -> Tensor:
    """Mean over the hashes of the sum of values in each reader's bucket.

    Args:
        readers, writers: (batch, heads, length, hashes) buckets.
        values: (batch, heads, length, ...), what writers put there.
    """
    flat = values.flatten(0, 2)
    total = torch.zeros_like(flat)
    for reads, writes in zip(_slots(readers, buckets), _slots(writers, buckets), strict=True):
        table = flat.new_zeros((values.shape[0] * values.shape[1] * buckets, *flat.shape[1:]))
        total += table.index_add_(0, writes, flat).index_select(0, reads)
    return (total / readers.shape[-1]).view(values.shape)


def _weighted(
    readers: Tensor, asked: Tensor, writers: Tensor, offered: Tensor, vectors: Tensor, buckets: int
) -> Tensor:
    """The same of `vectors`, each times the product of its `offered` and the reader's `asked`, (.., channels)."""
    total = torch.zeros_like(vectors)
    for ask, offer in zip(asked.split(CHANNELS, -1), offered.split(CHANNELS, -1), strict=True):
        outer = by_buckets(readers, writers, offer[..., None] * vectors[..., None, :], buckets)
        total += (ask[..., None, :] @ outer).squeeze(-2)
    return total


class _Sampled(torch.autograd.Function):
    """Sums of values by hashes."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        """Queries, keys, values, which are seen, codes of queries and keys, their length, how gradients are made."""
        _, _, value, _, query_codes, key_codes, length, _ = inputs
        if value.shape[2] < FEWEST_BUCKETED:
            return torch.cat(
                [weights.to(value.dtype) @ value for _, weights in _shares(query_codes, key_codes, 2**length)], 2
            )
        return by_buckets(query_codes, key_codes, value, 2**length)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs[:6])
        ctx.length, ctx.sampled = inputs[6:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, seen, query_codes, key_codes = ctx.saved_tensors
        if ctx.sampled and value.shape[2] >= FEWEST_BUCKETED:
            buckets, bound = 2**ctx.length, ctx.length / 2
            of_query = _weighted(query_codes, gradient, key_codes, value, bound * key, buckets)
            of_key = _weighted(key_codes, value, query_codes, gradient, bound * query, buckets)
            of_value = by_buckets(key_codes, query_codes, gradient, buckets)
            return of_query, of_key, of_value, None, None, None, None, None
        if ctx.sampled:
            weights: Iterable[tuple[slice, Tensor]] = (
                (rows, some.to(value.dtype)) for rows, some in _shares(query_codes, key_codes, 2**ctx.length)
            )
        else:
            weights = _blocks(query, key, seen, ctx.length, Dropout())
        found = _gradients(weights, gradient, query, key, value, ctx.length)
        return *found, None, None, None, None, None


def hadamard(x: Tensor) -> Tensor:
    """(..., n) times the Hadamard matrix of size n, a power of two.

    Heads are narrow: one product is faster than the n log n sums that would do.
    """
    matrix = x.new_ones(1, 1)
    while len(matrix) < x.shape[-1]:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return x @ matrix


class YosoAttention(Attention):
    """Sums of values by the probability that hashes agree, scaled to length one; a convolution of values is added.

    In training, hashes are redrawn at every call; in evaluation they are always the same ones.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`hash_length`: planes per hash; `num_hashes`: how many estimate a weight, None for the expectation itself.

        `rotates`: planes are those of fast random rotations instead of independent ones. `sampled_gradient`: the
        gradient of estimated sums is estimated too. `convolution`: tokens that it reaches over.
        """

        hash_length: int
        num_hashes: int | None = None
        rotates: bool = False
        sampled_gradient: bool = True
        convolution: int | None = None

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.conv = head_convolution(config.num_heads, config.convolution) if config.convolution else None

    @property
    def implementations(self) -> tuple[str, ...]:
        """Weights are no softmax."""
        return (EAGER,)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, ctx: Context) -> Tensor:
        rows = LeftAligned.of(ctx) if not ctx.layout.packed or self.conv is not None else None
        if ctx.attentions is not None:
            ctx.attentions.append(self._expected_weights(query, key, ctx))
        with torch.autocast(query.device.type, enabled=False):
            q, k, v = unit(at_least_float32(query)), unit(at_least_float32(key)), at_least_float32(value)
            if ctx.layout.packed:
                mixed = self._mixed_texts(q, k, v, ctx.layout.lengths)
            else:
                assert rows is not None
                q, k, v = (rows.spread(x).transpose(1, 2) for x in (q, k, v))
                codes = None if self.config.num_hashes is None else self._codes(torch.stack((q, k)))
                mixed = rows.collect(self._mixed(q, k, v, codes, rows.real).transpose(1, 2))
            mixed = unit(mixed).to(value.dtype)
        if ctx.head_mask is not None:
            mixed = mixed * ctx.head_mask[:, None]
        if self.conv is not None:
            assert rows is not None
            mixed = mixed + rows.collect(self.conv(rows.spread(value).transpose(1, 2)).transpose(1, 2))
        return mixed.flatten(-2)

    def _mixed_texts(self, query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """(tokens, heads, size) each of packed texts -> the same."""
        heads = [x.transpose(0, 1)[None] for x in (query, key, value)]
        codes = None if self.config.num_hashes is None else self._codes(torch.stack(heads[:2]))
        of_texts = [None] * len(lengths) if codes is None else codes.split(lengths, 3)
        texts = zip(*(x.split(lengths, 2) for x in heads), of_texts, strict=True)
        mixed = [self._mixed(q, k, v, own, None) for q, k, v, own in texts]
        return torch.cat(mixed, 2)[0].transpose(0, 1)

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor, codes: Tensor | None, seen: Tensor | None) -> Tensor:
        """(batch, heads, length, size) each, `codes` of queries and keys where hashes estimate weights -> the same."""
        c = self.config
        if codes is not None:
            mixed: Tensor = _Sampled.apply(query, key, value, seen, *codes, c.hash_length, c.sampled_gradient)
        elif torch.compiler.is_exporting():
            weights = agreement(query, key, c.hash_length)
            mixed = (weights if seen is None else weights * seen[:, None, None]) @ value
        else:
            mixed = _Expected.apply(query, key, value, seen, c.hash_length, self._dropout())
        return mixed

    def _dropout(self) -> Dropout:
        if not self.training or not self.config.dropout:
            return Dropout()
        return Dropout(self.config.dropout, int(torch.randint(2**48, ())))

    def _expected_weights(self, query: Tensor, key: Tensor, ctx: Context) -> Tensor:
        """(batch, length, heads, size) each -> (batch, heads, queries, keys), zero at keys that are padding."""
        q, k = (unit(at_least_float32(x)).transpose(1, 2) for x in (query, key))
        weights = agreement(q, k, self.config.hash_length)
        return weights if ctx.layout.mask is None else weights * ctx.layout.mask[:, None, None]

    @torch.no_grad()
    def _codes(self, x: Tensor) -> Tensor:
        """(..., heads, length, size) -> (..., heads, length, hashes), the bucket of each vector by each hash."""
        assert self.config.num_hashes is not None
        bits = self.config.num_hashes * self.config.hash_length
        generator = None if self.training else torch.Generator().manual_seed(0)
        if self.config.rotates:
            width = 2 ** (self.head_size - 1).bit_length()
            shape = (self.config.num_heads, 1, -(-bits // width), ROTATIONS, width)
            signs = (torch.randint(2, shape, generator=generator) * 2 - 1).to(x)
            sides = F.pad(x, (0, width - self.head_size))[..., None, :]
            for number in range(ROTATIONS):
                sides = hadamard(sides * signs[..., number, :])
            sides = sides.flatten(-2)[..., :bits]
        else:
            planes = torch.randn(self.config.num_heads, self.head_size, bits, generator=generator)
            sides = x @ planes.to(x)
        signs = (sides > 0).unflatten(-1, (self.config.num_hashes, self.config.hash_length))
        return (signs * 2 ** torch.arange(self.config.hash_length, device=x.device)).sum(-1)
