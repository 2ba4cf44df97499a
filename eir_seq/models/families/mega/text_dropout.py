"""Dropout of single numbers, or of whole channels of a text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eir_seq.models.layers.dropout import drop
from eir_seq.models.layers.layout import Layout


class TextDropout(nn.Module):
    """`by_channel`: a channel is dropped at all tokens of a text, or at none (https://arxiv.org/abs/1411.4280)."""

    def __init__(self, rate: float, by_channel: bool) -> None:
        super().__init__()
        self.rate, self.by_channel = rate, by_channel

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """States of the layout -> the same."""
        if not self.by_channel or not self.training:
            return drop(x, self.rate, self.training)
        kept = drop(x.new_ones(layout.batch, x.shape[-1]), self.rate)
        if layout.packed:
            return x * kept.repeat_interleave(torch.tensor(layout.lengths, device=x.device), 0)
        return x * kept[:, None]
