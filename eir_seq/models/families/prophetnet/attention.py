"""Self-attention of a decoder that reads a text in one stream and predicts it in others, all side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import drop
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.positions.relative import distance_buckets

BLOCK = 128
"""Queries that are taken at a time: few enough that those do not see many keys which come after all of them."""


class Streams(NamedTuple):
    """Queries of all streams and what they are compared with.

    Attributes:
        query, own_key, own_value: (..., streams, heads, queries, head_size).
        biases: (..., streams, heads, queries, buckets).
        key, value: (..., heads, keys, head_size), of the text.
    """

    query: Tensor
    own_key: Tensor
    own_value: Tensor
    biases: Tensor
    key: Tensor
    value: Tensor


def _ends(real: Tensor | None, batch: int, keys: int) -> list[int]:
    """Keys of each text up to its last real one."""
    if real is None:
        return [keys] * batch
    ends: list[int] = (real * torch.arange(1, keys + 1, device=real.device)).amax(1).clamp(min=1).tolist()
    return ends


class NgramAttention(Attention):
    """Attention of 1 + n streams (https://arxiv.org/abs/2001.04063), the first of which reads the text.

    Tokens of the others see themselves, the first token that was read, and those read up to 0, 1, 2 ... places in
    front of their own. Biases depend on a token's state and on the bucket of the distance.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`streams`: all of them; `num_buckets`, `max_distance`: see `RelativeBuckets`.

        `mixes_biases`: those of predicting streams, made per (token, stream, head), are read as if they were per
        (stream, head, token), as published models of this kind do.
        """

        streams: int
        num_buckets: int
        max_distance: int
        mixes_biases: bool

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.biases = Linear(config.hidden_size, config.num_buckets * config.num_heads)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """(batch, streams * length, hidden) -> the same; the streams follow one another."""
        query, own_key, own_value = (
            self._streams(self._heads(project(x))).transpose(2, 3) for project in (self.query, self.key, self.value)
        )  # (batch, streams, heads, length, head_size)
        key, value = own_key[:, 0], own_value[:, 0]
        if ctx.cache is not None:
            key, value = ctx.cache.extend(self, key, value)
        queries, keys = query.shape[3], key.shape[2]
        look, buckets = ctx.once(("streams", queries, keys), lambda: self._places(queries, keys, x.device))
        given = Streams(query * self.scale, own_key, own_value, self._biases_by_bucket(x), key, value)
        wanted = ctx.cache is not None or ctx.attentions is not None or ctx.head_mask is not None
        if wanted or x.device.type != "cpu" or torch.compiler.is_compiling():
            look = look if ctx.keys is None else look & ctx.keys[:, None, None, None]
            mixed = self._read(given, look, buckets, ctx)
        else:
            ends = ctx.once("ends of keys", lambda: _ends(ctx.keys, *key.shape[::2]))
            texts = [Streams(*text) for text in zip(*given, strict=True)]
            masks = [None] * len(texts) if ctx.keys is None else ctx.keys
            mixed = torch.stack(
                [
                    self._read_text(text, look, buckets, mask, end, ctx)
                    for text, mask, end in zip(texts, masks, ends, strict=True)
                ]
            )
        return self.out(mixed.transpose(2, 3).flatten(3).flatten(1, 2))

    def _read_text(
        self, text: Streams, look: Tensor, buckets: Tensor, real: Tensor | None, end: int, ctx: Context
    ) -> Tensor:
        """See `_read`, of one text, some of its queries at a time with the keys that they may see.

        `real`: (keys,) bool, up to `end`.
        """
        found = []
        for start in range(0, text.query.shape[2], BLOCK):
            rows, last = slice(start, start + BLOCK), min(start + BLOCK, end)
            see = look[:, :, rows, :last]
            see = see if real is None else see & real[:last]
            query, own_key, own_value, biases = (x[:, :, rows] for x in text[:4])
            some = Streams(query, own_key, own_value, biases, text.key[:, :last], text.value[:, :last])
            found.append(self._read(some, see, buckets[:, :, rows, :last], ctx))
        return torch.cat(found, 2)

    def _read(self, given: Streams, look: Tensor, buckets: Tensor, ctx: Context) -> Tensor:
        """Sums of what queries see, (..., streams, heads, queries, head_size).

        `look` and `buckets`: (..., streams, 1, queries, keys), which of the keys a query sees and their buckets.
        """
        query, own_key, own_value, biases, key, value = given
        key, value, keys = key.unsqueeze(-4), value.unsqueeze(-4), key.shape[-2]
        scores = query @ key.transpose(-1, -2)
        scores = scores + biases.gather(-1, buckets.expand(*biases.shape[:-1], keys))
        itself = (query * own_key).sum(-1, keepdim=True) + biases[..., :1]
        reads = torch.arange(self.config.streams, device=query.device)[:, None, None, None] == 0
        least = torch.finfo(scores.dtype).min
        weights = torch.cat((scores.masked_fill(~look, least), itself.masked_fill(reads, least)), -1).softmax(-1)
        dropped = drop(weights, self.config.dropout, self.training)
        if ctx.head_mask is not None:
            factors = ctx.head_mask[:, None, None]
            weights, dropped = weights * factors, dropped * factors
        if ctx.attentions is not None:
            ctx.attentions.append(weights)
        dropped = dropped.to(value.dtype)
        return dropped[..., :keys] @ value + dropped[..., keys:] * own_value

    def _streams(self, x: Tensor) -> Tensor:
        """(batch, streams * length, ...) -> (batch, streams, length, ...)."""
        return x.unflatten(1, (self.config.streams, -1))

    def _biases_by_bucket(self, x: Tensor) -> Tensor:
        """(batch, streams * length, hidden) -> (batch, streams, heads, length, buckets)."""
        made = self._streams(self.biases(x)).unflatten(-1, (self.config.num_buckets, self.config.num_heads))
        biases = made.permute(0, 1, 4, 2, 3)
        if not self.config.mixes_biases:
            return biases
        mixed = made[:, 1:].permute(0, 2, 1, 4, 3).flatten(1, 3)
        mixed = mixed.unflatten(1, (biases.shape[1] - 1, *biases.shape[2:4]))
        return torch.cat((biases[:, :1], mixed), 1)

    def _places(self, queries: int, keys: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Which tokens that were read each stream sees, (streams, 1, queries, keys) bool, and the buckets of these."""
        place = torch.arange(keys, device=device)
        stream = torch.arange(self.config.streams, device=device)[:, None, None, None]
        distance = place[keys - queries :, None] - place
        look = (distance >= (stream - 1).clamp(min=0)) | ((stream > 0) & (place == 0))
        after = (distance + (stream > 0).long()).clamp(min=0)  # a predicted token is one place further
        return look, distance_buckets(after, self.config.num_buckets, self.config.max_distance)
