"""Two layouts of a batch of texts: padded to a rectangle, or packed without padding.

Linear layers, norms and feed-forward blocks do not care which one they get. Only mixers and positions look at it.
Packing means that nothing is computed at padding, which is the largest saving on texts of real lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Layout:
    """The layout of the tokens of a batch.

    `mask`: (batch, length) bool, True at real tokens; None if all are real.
    `index`: (tokens,) places of the real tokens in the flattened rectangle, if packed.
    `lengths`: tokens per text, if packed.
    """

    batch: int
    length: int
    mask: Tensor | None = None
    index: Tensor | None = None
    lengths: tuple[int, ...] = field(default=())

    @property
    def packed(self) -> bool:
        """Whether states are (tokens, hidden) instead of (batch, length, hidden)."""
        return self.index is not None

    @property
    def right_padded(self) -> bool:
        """Whether no padding precedes a real token."""
        return self.mask is None or bool((self.mask[:, 1:] <= self.mask[:, :-1]).all())

    @classmethod
    def padded(cls, batch: int, length: int, mask: Tensor | None) -> Layout:
        """The rectangular layout; `mask` as in transformers: nonzero at real tokens."""
        return cls(batch, length, None if mask is None else mask.bool())

    def without_padding(self, *, inner_padding: bool = False) -> Layout:
        """The packed layout of the same texts; itself where nothing is padded.

        A packed text knows the order of its tokens, not their places: distances and windows would be counted without
        the masked tokens between two real ones. Where a text has such holes, the batch therefore stays as it is, unless
        `inner_padding` says that no layer tells places apart.
        """
        if self.mask is None:
            return self
        begins = self.mask & ~F.pad(self.mask[:, :-1], (1, 0))
        lengths, pieces = torch.stack((self.mask.sum(1), begins.sum(1))).tolist()  # one wait for the device
        if sum(lengths) == self.batch * self.length:
            return Layout(self.batch, self.length)
        if not any(lengths) or (max(pieces) > 1 and not inner_padding):
            return self
        index = self.mask.flatten().nonzero().squeeze(1)
        return Layout(self.batch, self.length, self.mask, index, tuple(lengths))

    def pack(self, x: Tensor) -> Tensor:
        """(batch, length, ...) -> the states of this layout."""
        return x if self.index is None else x.flatten(0, 1).index_select(0, self.index)

    def pad(self, x: Tensor) -> Tensor:
        """The states of this layout -> (batch, length, ...), zero at padding where this layout is packed."""
        if self.index is None:
            return x
        full = x.new_zeros((self.batch * self.length, *x.shape[1:])).index_copy_(0, self.index.to(x.device), x)
        return full.unflatten(0, (self.batch, self.length))

    def first(self, x: Tensor) -> Tensor:
        """The state of the first place of each text: (batch, hidden); that of another text where a text is empty."""
        if self.index is None:
            return x[:, 0]
        starts = torch.tensor((0, *self.lengths[:-1]), device=x.device).cumsum(0)
        return x.index_select(0, starts.clamp(max=len(x) - 1))
