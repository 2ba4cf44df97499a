"""Chunks of the texts of a batch: a chunk belongs to one text, and one that holds no token is not there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.layers.layout import Layout


@dataclass(frozen=True)
class Chunks:
    """Where the tokens of a layout are in chunks.

    Texts count as `length` tokens long, a whole number of chunks. Of a padded layout all chunks are there; of a packed
    one those that hold tokens.

    Attributes:
        size: tokens of a chunk.
        slot: (tokens,) which slot each token of a packed layout has; None: slots are those of the padded rectangle.
        text, number: (chunks,) text of each chunk, and which of the text's chunks it is.
        begin, count, first: (batch,) number of each text's first chunk, how many there are, and how many before them.
        real: (chunks, size) bool, which slots hold real tokens.
        tokens: (batch,) how many of a text's tokens are real.
        mask: (batch, length) bool of the padded rectangle.
    """

    layout: Layout
    size: int
    length: int
    slot: Tensor | None
    text: Tensor
    number: Tensor
    begin: Tensor
    count: Tensor
    first: Tensor
    real: Tensor
    tokens: Tensor
    mask: Tensor

    @classmethod
    def of(cls, layout: Layout, size: int, length: int, device: torch.device, *, together: bool) -> Chunks:
        """The chunks of `size` tokens of texts that count as `length` tokens long.

        `together`: real tokens come first in their text, wherever there is padding.
        """
        real = torch.ones(layout.batch, layout.length, dtype=torch.bool, device=device)
        mask = F.pad(real if layout.mask is None else layout.mask, (0, length - layout.length))
        tokens, texts = mask.sum(1), torch.arange(layout.batch, device=device)
        start = torch.zeros_like(tokens) if together else mask.int().argmax(1)
        slot = None
        if layout.packed:
            begin = start // size
            count = torch.where(tokens > 0, (start + tokens - 1) // size + 1 - begin, 0)
            first = count.cumsum(0) - count
            shift = start + (first - begin) * size - (tokens.cumsum(0) - tokens)
            slot = torch.arange(sum(layout.lengths), device=device) + shift.repeat_interleave(tokens)
            text = texts.repeat_interleave(count)
            number = torch.arange(text.shape[0], device=device) + (begin - first)[text]
        else:
            whole = length // size
            begin, count, first = texts * 0, texts * 0 + whole, texts * whole
            number = torch.arange(layout.batch * whole, device=device)
            text, number = number // whole, number % whole
        place = number[:, None] * size + torch.arange(size, device=device) - start[text, None]
        real = (place >= 0) & (place < tokens[text, None])
        if not layout.packed and not together:
            real = mask.unflatten(1, (-1, size)).flatten(0, 1)
        return cls(layout, size, length, slot, text, number, begin, count, first, real, tokens, mask)

    @property
    def place(self) -> Tensor:
        """(chunks, size) places of slots in their texts."""
        return self.number[:, None] * self.size + torch.arange(self.size, device=self.number.device)

    def around(self, hashes: int, before: int, after: int) -> tuple[Tensor, Tensor]:
        """(hashes * chunks, 1 + before + after) chunks around each, and whether they are there.

        The chunks of a text follow one another, `hashes` times; the first one follows the last one.
        """
        whole, device = self.length // self.size, self.number.device
        rounds = torch.arange(hashes, device=device)[:, None, None] * whole
        steps = torch.arange(-before, after + 1, device=device)
        near = (rounds + self.number[:, None] + steps) % (hashes * whole)
        turn, near = near // whole, near % whole - self.begin[self.text, None]
        there = (near >= 0) & (near < self.count[self.text, None])
        index = torch.where(there, near, 0) + self.first[self.text, None] + turn * self.text.shape[0]
        return index.flatten(0, 1), there.flatten(0, 1)

    def padded(self, x: Tensor) -> Tensor:
        """(..., heads, size) in the layout -> (batch, length, heads, size)."""
        return F.pad(self.layout.pad(x), (0, 0, 0, 0, 0, self.length - self.layout.length))

    def spread(self, x: Tensor) -> Tensor:
        """(..., heads, size) in the layout -> (heads, chunks, size of a chunk, size), zero where there is no token."""
        if self.slot is None:
            slots = self.padded(x).unflatten(1, (-1, self.size)).flatten(0, 1)
        else:
            slots = x.new_zeros((self.text.shape[0] * self.size, *x.shape[1:])).index_copy(0, self.slot, x)
            slots = slots.unflatten(0, (-1, self.size))
        return slots.permute(2, 0, 1, 3)

    def collect(self, x: Tensor) -> Tensor:
        """The inverse."""
        slots = x.permute(1, 2, 0, 3).flatten(0, 1)
        return self.in_layout(slots if self.slot is None else slots.index_select(0, self.slot))

    def in_layout(self, x: Tensor) -> Tensor:
        """(tokens, ...), or all places of texts where the layout is padded -> states of the layout."""
        if self.layout.packed:
            return x
        x = x.view(self.layout.batch, self.length, *x.shape[1:])
        if torch.compiler.is_exporting():  # a slice would tie the graph to whether chunks fill the example
            return x.index_select(1, torch.arange(self.layout.length, device=x.device))
        return x[:, : self.layout.length]

    def by_text(self, weights: Tensor, hashes: int) -> Tensor:
        """(heads, hashes * chunks, ...) -> (batch, heads, hashes * chunks of a text, ...) of a padded layout."""
        parts = weights.unflatten(1, (hashes, self.layout.batch, -1))
        return parts.permute(2, 0, 1, 3, 4, 5).flatten(2, 3)

    def sorted(self, order: Tensor, hashes: int) -> Sorted:
        """Chunks of tokens that are sorted, once for each of the hashes.

        Args:
            order: (batch, heads, hashes * length), hash by hash the places of tokens, the real ones first; a multiple
                of `length` may be added.
        """
        batch = self.layout.batch
        place = order.unflatten(2, (hashes, self.length)) % self.length
        token = place + torch.arange(batch, device=order.device)[:, None, None, None] * self.length
        place, token = (x.permute(1, 2, 0, 3).flatten(2) for x in (place, token))  # (heads, hashes, all places)
        if self.slot is None:
            return Sorted(self, place, token, token)
        index = self.layout.index
        assert index is not None
        taken = (torch.arange(self.length, device=order.device) < self.tokens[:, None]).flatten().nonzero().squeeze(1)
        place, token = place[..., taken], token[..., taken]
        width = self.layout.length
        number = torch.zeros(batch * self.length, dtype=torch.long, device=order.device)
        number[index // width * self.length + index % width] = torch.arange(len(index), device=order.device)
        token = number[token]
        slots = torch.zeros(*token.shape[:2], self.text.shape[0] * self.size, dtype=torch.long, device=order.device)
        places = (slots - 1).index_copy(2, self.slot, place)  # no token is at -1
        return Sorted(self, places, slots.index_copy(2, self.slot, token), token)


class Sorted:
    """Tokens in another order, several times, and for each head on its own.

    `place`: (heads, hashes * chunks, size) places of slots in their texts.
    """

    def __init__(self, chunks: Chunks, place: Tensor, of_slots: Tensor, tokens: Tensor) -> None:
        """`of_slots`: (heads, hashes, slots) tokens by slot; `tokens`: the same without slots that hold none."""
        heads, hashes, slots = of_slots.shape
        self._shape = (heads, hashes * chunks.text.shape[0], chunks.size)
        self.chunks, self.place = chunks, place.int().reshape(self._shape)
        head = torch.arange(heads, device=tokens.device)[:, None, None]
        self._source = (of_slots * heads + head).flatten()
        slot = torch.arange(slots, device=tokens.device) if chunks.slot is None else chunks.slot
        first = (head * hashes + torch.arange(hashes, device=tokens.device)[:, None]) * slots
        self._back = torch.empty_like(tokens).scatter_(2, tokens, first + slot)

    def spread(self, x: Tensor) -> Tensor:
        """(..., heads, size) in the layout -> (heads, hashes * chunks, size of a chunk, size)."""
        x = x if self.chunks.layout.packed else self.chunks.padded(x).flatten(0, 1)
        size = x.shape[-1]
        return x.reshape(-1, size).index_select(0, self._source).view(*self._shape, size)

    def collect(self, x: Tensor) -> Tensor:
        """(heads, hashes * chunks, size of a chunk, size) -> (heads, hashes, tokens, size)."""
        return x.flatten(0, 2).index_select(0, self._back.flatten()).view(*self._back.shape, x.shape[-1])
