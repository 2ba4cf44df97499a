"""Copies of feed-forward blocks and norms that make fewer calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from eir_seq.models.generation.decode.copies import Copies
from eir_seq.models.generation.decode.products import Few, joined
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.norms.rms_norm import RMSNorm


class LightMlp(Mlp):
    """A gated feed-forward block with one product for both of its inner vectors."""

    few: Few
    together: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden) -> (..., hidden)."""
        if not self.few.began:
            return super().forward(x)
        gate, inner = self.together(x).chunk(2, -1)
        return self.down(self.activation(gate) * inner)


def light_mlp(mlp: Mlp, copies: Copies, few: Few) -> LightMlp | None:
    """The copy of a feed-forward block with a gate."""
    if mlp.gate is None:
        return None
    copy: LightMlp = copies.plain(mlp, LightMlp, few=few)
    assert copy.gate is not None
    copy.together = joined([copy.gate, copy.up], few)
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
        if x.dim() != 3 or x.shape[1] != 1:
            return torch.rms_norm(x, self.weight.shape, self.weight, self.eps)
        factor = torch.baddbmm(_scalar(self.eps, x.device), x, x.mT, alpha=1 / x.shape[2]).rsqrt_()
        return (x * factor).mul_(self.weight)


class LightLayerNorm(LayerNorm):
    """The same norm, without torch's checks."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        return torch.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
