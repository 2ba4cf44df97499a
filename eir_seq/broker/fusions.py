"""Fusions of a message with what a layer reads or gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.config.messages import MessageCrossAttentionConfig


class MessageFusion(nn.Module):
    """States of the target (batch, positions, size) and a message to states of the target.

    A message has the positions of the target or one, but where a fusion attends to it. Rows without a message have
    zeros in its place.

    Args:
        config: of the fusion.
        size: of the states.

    Raises:
        ValueError: the size does not fit, and why.
    """

    def __init__(self, config: Any, size: int) -> None:
        super().__init__()
        del config, size

    def forward(self, states: Tensor, message: Tensor, mask: Tensor | None, there: Tensor | None) -> Tensor:
        """The states after the message has come.

        Args:
            states: of the target, (batch, positions, size).
            message: (batch, positions or 1, size).
            mask: (batch, positions) of the message, True at real ones; None: all are.
            there: (batch,), the rows that have a message; None: all have one.
        """
        del mask
        if there is not None:
            message = message.masked_fill(~there[:, None, None], 0.0)
        return self.fuse(states, message)

    def fuse(self, states: Tensor, message: Tensor) -> Tensor:
        """The states after the message has come, of zeros where there is none."""
        raise NotImplementedError


class Additive(MessageFusion):
    """The sum."""

    def fuse(self, states: Tensor, message: Tensor) -> Tensor:
        """See `MessageFusion`."""
        return states + message


class GatedSum(MessageFusion):
    """The sum, with a gate on each feature of the message that begins at zero."""

    def __init__(self, config: Any, size: int) -> None:
        super().__init__(config, size)
        self.gate = nn.Parameter(torch.zeros(size))

    def fuse(self, states: Tensor, message: Tensor) -> Tensor:
        """See `MessageFusion`."""
        return states + self.gate.tanh() * message


class Concat(MessageFusion):
    """A linear layer on both, side by side; it begins as the sum."""

    def __init__(self, config: Any, size: int) -> None:
        super().__init__(config, size)
        self.linear = nn.Linear(2 * size, size)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(size).repeat(1, 2))
            self.linear.bias.zero_()

    def fuse(self, states: Tensor, message: Tensor) -> Tensor:
        """See `MessageFusion`."""
        fused: Tensor = self.linear(torch.cat([states, message.expand_as(states)], dim=-1))
        return fused


class CrossAttention(MessageFusion):
    """A residual branch by which each position attends to those of the message; it begins at zero."""

    def __init__(self, config: MessageCrossAttentionConfig, size: int) -> None:
        super().__init__(config, size)
        heads = config.num_heads or next(heads for heads in range(min(8, size), 0, -1) if size % heads == 0)
        if size % heads:
            raise ValueError(f"{heads} attention heads do not divide the width {size}")
        self.norm, self.message_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.attention = nn.MultiheadAttention(size, heads, dropout=config.dropout, batch_first=True)
        nn.init.zeros_(self.attention.out_proj.weight)
        nn.init.zeros_(self.attention.out_proj.bias)

    def forward(self, states: Tensor, message: Tensor, mask: Tensor | None, there: Tensor | None) -> Tensor:
        """See `MessageFusion`."""
        read = self.message_norm(message)
        if mask is not None:  # a softmax over nothing is not finite; such rows have no message
            mask = mask | ~mask.any(dim=1, keepdim=True)
        left_out = None if mask is None else ~mask
        attended, _ = self.attention(self.norm(states), read, read, key_padding_mask=left_out, need_weights=False)
        if there is not None:
            attended = attended.masked_fill(~there[:, None, None], 0.0)
        fused: Tensor = states + attended
        return fused
