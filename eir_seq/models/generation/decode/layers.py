"""Copies of feed-forward blocks and norms that make fewer calls."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

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


class LightRMSNorm(RMSNorm):
    """The same norm in one call."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        if x.dtype is not torch.float32:
            return super().forward(x)
        return torch.rms_norm(x, self.weight.shape, self.weight, self.eps)


class LightLayerNorm(LayerNorm):
    """The same norm, without torch's checks."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        return torch.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


def light_norm(kind: type[nn.Module]) -> Callable[[nn.Module, Copies], nn.Module]:
    """What copies a norm as one of `kind`."""
    return lambda norm, copies: copies.plain(norm, kind)
