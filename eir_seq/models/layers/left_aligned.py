"""Texts left-aligned in a rectangle, each from its first real token on, for mixers that cut texts into pieces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.layers.context import Context


@dataclass(frozen=True)
class LeftAligned:
    """A rectangle of whole pieces in which every text begins at the left, whichever side it is padded on.

    Masked tokens between real ones keep their places. With a cache texts are laid out as given: where one begins is
    known from earlier passes only.

    `real`: (batch, length) bool; `place`: (tokens,) where the tokens of the context's layout are in the flattened
    rectangle, None if they are where they should be.
    """

    real: Tensor
    place: Tensor | None
    width: int
    packed: bool

    @classmethod
    def of(cls, ctx: Context, piece: int = 1) -> LeftAligned:
        """The rows of this pass, as long as a multiple of `piece`; the same for all layers that ask for it."""
        rows: LeftAligned = ctx.once(("rows", piece), lambda: cls._make(ctx, piece))
        return rows

    @classmethod
    def _make(cls, ctx: Context, piece: int) -> LeftAligned:
        layout, device = ctx.layout, ctx.positions.device
        width = max(layout.lengths) if layout.packed else layout.length
        pieces = -(-width // piece)
        length = (pieces if torch.compiler.is_exporting() else max(1, pieces)) * piece
        columns = torch.arange(length, device=device)
        if layout.packed:
            lengths = torch.tensor(layout.lengths, device=device)
            start = torch.arange(layout.batch, device=device) * length - (lengths.cumsum(0) - lengths)
            place = torch.arange(int(lengths.sum()), device=device) + start.repeat_interleave(lengths)
            return cls(columns[None] < lengths[:, None], place, width, True)
        if layout.mask is None:
            return cls((columns < width).expand(layout.batch, -1), None, width, False)
        real = F.pad(layout.mask, (0, length - width))
        if ctx.cache is not None:
            return cls(real, None, width, False)
        column = (
            columns[:width] - layout.mask.int().argmax(1, keepdim=True)
        ) % width  # padding on the left moves to the right
        place = column + torch.arange(layout.batch, device=device)[:, None] * length
        return cls(torch.zeros_like(real).scatter(1, column, layout.mask), place.flatten(), width, False)

    @property
    def ends(self) -> Tensor:
        """(batch, 1) places up to the last real token of each text."""
        return (self.real * torch.arange(1, self.real.shape[1] + 1, device=self.real.device)).amax(1, keepdim=True)

    def spread(self, x: Tensor, *, blank: bool = True) -> Tensor:
        """States of the context's layout -> (batch, length, ...), zero after what the layout holds.

        `blank`: also where there is no real token.
        """
        if self.place is None:
            rows = F.pad(x, (0, 0) * (x.dim() - 2) + (0, self.real.shape[1] - self.width))
        else:
            tokens = x if self.packed else x.flatten(0, 1)
            rows = tokens.new_zeros((self.real.numel(), *tokens.shape[1:])).index_copy(0, self.place, tokens)
            rows = rows.unflatten(0, self.real.shape)
        return rows if self.packed or not blank else rows * self.real[(..., *(None,) * (rows.dim() - 2))]

    def collect(self, x: Tensor) -> Tensor:
        """The inverse: (batch, length, ...) -> states of the context's layout."""
        if self.place is None:
            return x[:, : self.width]
        tokens = x.flatten(0, 1).index_select(0, self.place)
        return tokens if self.packed else tokens.unflatten(0, (self.real.shape[0], -1))
