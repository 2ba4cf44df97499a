"""The normalizations of mega, by name; those over a batch leave padding out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.layout import Layout
from eir_seq.models.layers.precision import at_least_float32

EPSILON = 1e-5
MOMENTUM = 0.1


class SequenceNorm(Configured):
    """One of five norms.

    Over a token: scalenorm and rmsnorm (unit mean square, with one scale or one per channel), layernorm. Over all
    tokens: batchnorm and syncbatchnorm (zero mean and unit variance of each channel, in evaluation by running ones).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`kind`: its name; `affine`: whether there are learned scales, and shifts where means are taken away."""

        kind: str
        affine: bool

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, config: Config, size: int) -> None:
        super().__init__()
        self.kind = config.kind
        centred = self.kind not in ("scalenorm", "rmsnorm")
        self.weight = nn.Parameter(torch.ones(1 if self.kind == "scalenorm" else size)) if config.affine else None
        self.bias = nn.Parameter(torch.zeros(size)) if config.affine and centred else None
        if self.kind.endswith("batchnorm"):
            self.register_buffer("running_mean", torch.zeros(size))
            self.register_buffer("running_var", torch.ones(size))
            self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """States of the layout -> the same; computed in float32 or better."""
        wide = at_least_float32(x)
        if self.kind == "layernorm":
            unit = F.layer_norm(wide, wide.shape[-1:], eps=EPSILON)
        elif self.kind.endswith("batchnorm"):
            mean, variance = self._moments(wide, layout) if self.training else (self.running_mean, self.running_var)
            unit = (wide - mean) * torch.rsqrt(variance + EPSILON)
        else:
            unit = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPSILON)
        unit = unit if self.weight is None else unit * self.weight
        return (unit if self.bias is None else unit + self.bias).to(x.dtype)

    def _moments(self, x: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Mean and variance of each channel over the real tokens of a batch, which the running ones follow."""
        flat = x.flatten(0, -2)
        if layout.packed or layout.mask is None:
            real = flat.new_ones(flat.shape[0], 1)
        else:
            real = layout.mask.flatten()[:, None].to(flat.dtype)
        count = self._over_processes(real.sum())
        divisor = count.clamp(min=1)
        mean = self._over_processes((flat * real).sum(0)) / divisor
        variance = self._over_processes(((flat - mean).square() * real).sum(0)) / divisor
        self._track(mean, variance, count)
        return mean, variance

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_mean.lerp_(mean.to(self.running_mean), MOMENTUM)
        self.running_var.lerp_(unbiased.to(self.running_var), MOMENTUM)
        self.num_batches_tracked.add_(1)

    def _over_processes(self, x: Tensor) -> Tensor:
        if self.kind != "syncbatchnorm" or not torch.distributed.is_initialized():
            return x
        from torch.distributed.nn.functional import all_reduce

        summed: Tensor = all_reduce(x)
        return summed
