"""What the kernels compute, in operations of torch: for tests, and for derivatives of derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

ROUNDS = 7
STEPS = 2**16
"""Probabilities of dropout are multiples of one over this."""
SHARED = 2**31
"""What the shared keys of a text count from, see `dropout_mask`."""


class Problem(NamedTuple):
    """A call besides its tensors. A query at position p, of as many as there are keys, sees keys from p - `before` to
    p + `after`; -1: all on that side."""

    query_lengths: Sequence[int]
    key_lengths: Sequence[int]
    before: int
    after: int
    scale: float
    dropout: float
    seed: int
    center: int = 0


def philox(counter: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Philox 4x32 with 7 rounds: 4 words of a counter -> 4 of random bits, all int64 (https://doi.org/10.1145/2063384.2063405)."""
    low = 2**32 - 1
    key = [seed & low, (seed >> 32) & low]
    x = [word & low for word in torch.broadcast_tensors(*counter)]
    for _ in range(ROUNDS):
        high0, low0 = _product(x[0], 0xD2511F53)
        high2, low2 = _product(x[2], 0xCD9E8D57)
        x = [high2 ^ x[1] ^ key[0], low2, high0 ^ x[3] ^ key[1], low0]
        key = [(key[0] + 0x9E3779B9) & low, (key[1] + 0xBB67AE85) & low]
    return x


def _product(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Upper and lower 32 bits of x times a factor, both below 2^32."""
    small = (x & 0xFFFF) * factor
    upper = (x >> 16) * factor + (small >> 16)
    return upper >> 16, ((upper & 0xFFFF) << 16) | (small & 0xFFFF)


def dropout_mask(seed: int, rate: float, text: int, heads: int, queries: int, keys: Tensor) -> Tensor:
    """(heads, queries, keys) bool of the attention weights of a text that are kept.

    Query q and key k share the random bits at counter (k, q // 8, head, text): q % 8 selects 16 of their 128.

    Args:
        keys: (keys,) numbers of the keys in their text; shared ones count from `SHARED`.
    """
    group = torch.arange(-(-queries // 8))[:, None]
    head = torch.arange(heads)[:, None, None]
    words = philox((keys, group, head, torch.tensor(text)), seed)
    halves = [half for word in words for half in (word & 0xFFFF, word >> 16)]
    return torch.stack(halves, 2).flatten(1, 2)[:, :queries] >= round(rate * STEPS)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    problem: Problem,
    distances: Tensor | None = None,
    shared: Tensor | None = None,
    biases: Sequence[Tensor] = (),
) -> Tensor:
    """See `eir_seq.native.attention.attention`."""
    mixed = []
    parts = zip(
        query.split(list(problem.query_lengths)),
        key.split(list(problem.key_lengths)),
        value.split(list(problem.key_lengths)),
        strict=True,
    )
    kept = 1 - round(problem.dropout * STEPS) / STEPS
    for number, (q, k, v) in enumerate(parts):
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
        k, v = (x.repeat_interleave(len(q) // len(x), 0) for x in (k, v))
        queries, keys = q.shape[1], k.shape[1]
        scores = q @ k.transpose(-1, -2) * problem.scale
        places = torch.arange(keys)
        apart = places - torch.arange(keys - queries, keys)[:, None]
        look = torch.ones_like(apart, dtype=torch.bool)
        if problem.before >= 0:
            look &= apart >= -problem.before
        if problem.after >= 0:
            look &= apart <= problem.after
        counted = places
        if distances is not None:
            scores = scores + distances[:, apart + problem.center]
        if biases:
            scores = scores + biases[number]
        if shared is not None and (own := shared[number][shared[number] >= 0]).numel():
            look = look.index_fill(1, own, True)
            counted = places.index_copy(0, own, SHARED + torch.arange(len(own)))
        # a query may see no key
        weights = scores.masked_fill(~look, float("-inf")).softmax(-1).nan_to_num(0)
        if problem.dropout:
            mask = dropout_mask(problem.seed, problem.dropout, number, len(q), queries, counted)
            weights = weights * mask / kept
        mixed.append((weights @ v).transpose(0, 1))
    return torch.cat(mixed)
