"""Attention between blocks of tokens (BigBird, https://arxiv.org/abs/2007.14062).

The first and the last block of a text look at all of it. Every other block attends to itself, its two neighbours, the
first and the last block, and a few random ones. Time and memory grow linearly with the length.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.attention.scorer import Pairs
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import drop

if TYPE_CHECKING:
    import numpy

logger = logging.getLogger(__name__)

PAPER_LENGTHS, PAPER_END = (1024, 3072, 4096), 1024
"""Lengths for which random blocks are drawn as for the paper: among those of the first that many tokens."""


@dataclass(frozen=True)
class VisibleBlocks:
    """What the blocks between the first and the last look at.

    `blocks`: (heads, rows, seen) numbers of blocks, a row per such block. `times`: (rows, seen) how often each of them
    counts in the softmax, 0 for not at all. `index`: the same blocks among those of all heads, flat.
    `bias`: (batch, heads * rows, 1, seen * block size) is added to the scores; `ends`: (batch, 1, 1, tokens) to those
    of the first and the last block.
    """

    blocks: Tensor
    times: Tensor
    index: Tensor
    bias: Tensor
    ends: Tensor


class BlockSparseAttention(Attention):
    """Attention between blocks; of all to all where texts are too short for it.

    Blocks are those of the batch as it is padded, the last one included, as in published models. Random blocks are
    drawn in training, once per length; in evaluation the first block stands for each of them.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`block_size`: tokens of a block. `random_blocks`: how many further ones a block attends to, drawn by `seed`.

        `max_positions`: the longest text in tokens, for which blocks of `PAPER_LENGTHS` are drawn.
        """

        block_size: int
        random_blocks: int
        seed: int
        max_positions: int

        @property
        def longest_full(self) -> int:
            """Tokens of a text up to which all attend to all."""
            return (5 + 2 * self.random_blocks) * self.block_size

    config: Config

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, ctx: Context) -> Tensor:
        """(..., heads, head_size) each -> (..., heads * head_size)."""
        config, layout = self.config, ctx.layout
        if layout.length <= config.longest_full:
            if not torch.compiler.is_compiling():
                _say_once(config.longest_full)
            return super()._attend(query, key, value, ctx)
        query, key, value = (self._cut(x, ctx) for x in (query, key, value))
        name = ("block sparse", config.block_size, config.random_blocks, config.seed if self.training else None)
        visible: VisibleBlocks = ctx.once(name, lambda: self._visible_blocks(query, ctx))
        heads, blocks = query.shape[1:3]
        around = (x.flatten(1, 2).index_select(1, visible.index) for x in (key, value))
        key_around, value_around = (x.view(x.shape[0], heads * (blocks - 2), -1, x.shape[-1]) for x in around)
        rows, row_weights = self._weighted(query[:, :, 1:-1].flatten(1, 2), key_around, value_around, visible.bias, ctx)
        first_and_last = torch.cat((query[:, :, 0], query[:, :, -1]), 2)
        ends, end_weights = self._weighted(first_and_last, key.flatten(2, 3), value.flatten(2, 3), visible.ends, ctx)
        mixed = _between(ends, rows)[:, :, : layout.length]
        if ctx.head_mask is not None:
            mixed = mixed * ctx.head_mask[:, None, None]
        if ctx.attentions is not None:
            ctx.attentions.append(self._published(end_weights, row_weights, visible, ctx))
        mixed = layout.pack(mixed.transpose(1, 2).flatten(2))
        blank = layout.mask is not None and not layout.packed  # as published
        return mixed * layout.mask[..., None] if blank else mixed  # type: ignore[index]

    def _cut(self, x: Tensor, ctx: Context) -> Tensor:
        """(..., heads, head_size) -> (batch, heads, blocks, block size, head_size), zero after the text."""
        size = self.config.block_size
        padded = F.pad(ctx.layout.pad(x), (0, 0, 0, 0, 0, -ctx.layout.length % size))
        return padded.transpose(1, 2).unflatten(2, (-1, size))

    def _visible_blocks(self, query: Tensor, ctx: Context) -> VisibleBlocks:
        config, device = self.config, query.device
        batch, heads, count, size = query.shape[:4]
        own = torch.arange(1, count - 1, device=device)
        blocks = torch.stack((torch.zeros_like(own), own - 1, own, own + 1, torch.full_like(own, count - 1)), 1)
        times = torch.ones_like(blocks)
        times[0, 1] = times[-1, 3] = 0  # neighbours that are the first or the last block
        blocks = blocks.expand(heads, -1, -1)
        if self.training:
            blocks = torch.cat((blocks, self._drawn(heads, count).to(device)), 2)
            times = F.pad(times, (0, config.random_blocks), value=1)
        else:
            times[:, 0] += config.random_blocks
        mask = ctx.layout.mask
        real = torch.ones(batch, ctx.layout.length, dtype=torch.bool, device=device) if mask is None else mask
        real = F.pad(real, (0, -real.shape[1] % size))
        least = torch.finfo(query.dtype).min / 2  # finite with any score: a text may have no real token
        look = real.unflatten(1, (count, size))[:, blocks] & (times > 0)[..., None]
        bias = times.clamp(min=1).to(query.dtype).log()[..., None].where(look, least)
        return VisibleBlocks(
            blocks=blocks,
            times=times,
            index=(blocks + torch.arange(heads, device=device)[:, None, None] * count).flatten(),
            bias=bias.flatten(3).flatten(1, 2)[:, :, None],
            ends=torch.zeros_like(real, dtype=query.dtype).masked_fill(~real, least)[:, None, None],
        )

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # numbers of numpy's generator are no part of a graph
    def _drawn(self, heads: int, count: int) -> Tensor:
        config = self.config
        drawn = drawn_blocks(config.seed, heads, count, config.block_size, config.random_blocks, config.max_positions)
        return torch.tensor(drawn)

    def _weighted(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, ctx: Context
    ) -> tuple[Tensor, Tensor | None]:
        """(batch, rows, tokens, head_size) each -> what the queries see, and the weights if they are wanted."""
        dropout = self.config.dropout if self.training else 0.0
        scorer, pairs = self.config.scorer, Pairs(bias=bias, dropout=dropout)
        if ctx.attentions is None:
            return scorer.attend(self, query, key, value, pairs), None
        weights = scorer.weights(self, query, key, pairs)
        return drop(weights, dropout).to(value.dtype) @ value, weights

    def _published(self, ends: Tensor | None, rows: Tensor | None, visible: VisibleBlocks, ctx: Context) -> Tensor:
        """Weights as in transformers: (batch, heads, length, length), of a block that counts several times once."""
        assert ends is not None
        assert rows is not None
        size, length = self.config.block_size, ctx.layout.length
        heads, count, seen = visible.blocks.shape
        once = rows.view(rows.shape[0], heads, count, size, seen, size) / visible.times.clamp(min=1)[:, None, :, None]
        index = visible.blocks[:, :, None, :, None].expand_as(once)
        spread = once.new_zeros(*once.shape[:4], count + 2, size).scatter_reduce(4, index, once, "amax")
        weights = _between(ends, spread.flatten(4).flatten(1, 2))[:, :, :length, :length]
        return weights if ctx.head_mask is None else weights * ctx.head_mask[:, None, None]


def _between(ends: Tensor, rows: Tensor) -> Tensor:
    """(batch, heads, 2 * block size, ...) and (batch, heads * rows, block size, ...) -> (batch, heads, tokens, ...)."""
    first, last = ends.chunk(2, 2)
    return torch.cat((first, rows.unflatten(1, (ends.shape[1], -1)).flatten(2, 3), last), 2)


@lru_cache
def _say_once(longest: int) -> None:
    logger.warning(
        "texts of at most %d tokens are too short for block_sparse attention and get full attention", longest
    )


@lru_cache(maxsize=256)
def drawn_blocks(
    seed: int, heads: int, count: int, size: int, wanted: int, max_positions: int
) -> numpy.ndarray[tuple[int, int, int], numpy.dtype[numpy.int64]]:
    """(heads, `count` - 2, `wanted`) numbers of random blocks for the blocks between the first and the last.

    `count` blocks of `size` tokens. They are drawn as for published models, by numpy's generator of old.
    """
    import numpy

    draw = numpy.random.RandomState(seed)
    drawn = numpy.zeros((heads, count - 2, wanted), dtype=numpy.int64)
    if wanted == 0:
        return drawn
    among = 5 + 2 * wanted
    if count * size in PAPER_LENGTHS and PAPER_END // size > among:
        every = max(max_positions // size, count)
        for head in range(heads):
            for row in range(1, every - 1):
                pool = _paper_pool(row, every, PAPER_END // size - 1)
                found = draw.permutation(pool)[:wanted]
                if row < count - 1:
                    drawn[head, row - 1] = found
        return drawn
    for row in range(1, count - 1):
        seen = {0, row - 1, row, row + 1, among - 1}
        seen |= {among - 2} if row == 1 else {1} if row == among - 2 else set()
        for head in range(heads):
            drawn[head, row - 1] = [block for block in draw.permutation(among) if block not in seen][:wanted]
    return drawn


def _paper_pool(row: int, every: int, last: int) -> list[int]:
    """The blocks that one may be drawn from for block `row` of `every`: the paper's slices, with their oddities."""
    middle = list(range(1, every - 1))
    if row <= 2:
        return middle[row + 1 : last]
    if row >= every - 3:
        return middle[:last]
    start = min(row - 2, last)
    return middle[:start] if row - 2 > last or row + 1 == last else middle[:start] + middle[row + 1 : last]
