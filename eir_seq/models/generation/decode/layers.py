"""Copies of feed-forward blocks and norms that make fewer calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from eir_seq.models.generation.decode.copies import Copies
from eir_seq.models.generation.decode.products import Few, joined
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.norms.rms_norm import RMSNorm


class LightMlp(Mlp):
    """A feed-forward block with one product for a gate and the inner vector."""

    few: Few
    together: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden) -> (..., hidden)."""
        return self.down(self.active(self.together(x))) if self.few.began else super().forward(x)

    @property
    def inner(self) -> Sequence[Linear]:
        """The layers that read its input."""
        return [self.up] if self.gate is None else [self.gate, self.up]

    def active(self, inner: Tensor) -> Tensor:
        """What the inner layers gave, side by side -> (..., inner)."""
        if self.gate is None:
            return self.activation(inner)
        gate, inner = inner.chunk(2, -1)
        return self.activation(gate) * inner


def light_mlp(mlp: Mlp, copies: Copies, few: Few) -> LightMlp:
    """The copy of a feed-forward block."""
    copy: LightMlp = copies.plain(mlp, LightMlp, few=few)
    copy.together = copy.up if copy.gate is None else joined(copy.inner, few)
    return copy


@cache
def _scalar(value: float, device: torch.device) -> Tensor:
    return torch.full((), value, device=device)


class LightRMSNorm(RMSNorm):
    """The same norm in fewer calls; a state's product with itself is the sum of its squares."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        if not x.dtype is self.weight.dtype is torch.float32:
            return super().forward(x)
        if x.dim() == 3 and x.shape[1] == 1:
            return self.forward(x.squeeze(1)).unsqueeze(1)
        if x.dim() != 2:
            return torch.rms_norm(x, self.weight.shape, self.weight, self.eps)
        row = x.unsqueeze(1)
        factor = torch.baddbmm(_scalar(self.eps, x.device), row, row.mT, alpha=1 / x.shape[1]).squeeze(2).rsqrt_()
        return (x * factor).mul_(self.weight)


class LightLayerNorm(LayerNorm):
    """The same norm, without torch's checks."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        return torch.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
