"""Mixing of tokens by a Fourier transform (FNet, https://arxiv.org/abs/2105.03824, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.context import Context


def transform_matrix(size: int) -> Tensor:
    """(size, size) complex: the discrete Fourier transform of vectors of length `size` as a product."""
    places = torch.arange(size, dtype=torch.float64)
    angles = -2 * torch.pi * (places[:, None] * places[None] % size) / size
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


class _RealTransform(torch.autograd.Function):
    """The real part of the transform of (batch, tokens, channels): cos(tokens) x cos(channels) - sin(tokens) x sin(..).

    That is a symmetric matrix, so gradients are transformed in the same way. Of real numbers, half of the channels are
    enough: the others have those of the mirrored token, conjugate.
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        half = torch.fft.rfft2(x, dim=(1, 2)).real
        count, rest = half.shape[2], x.shape[2] - half.shape[2]
        mixed = torch.empty_like(x, memory_format=torch.contiguous_format)
        mixed[:, :, :count] = half
        mirrored = mixed[:, :, 1 : rest + 1]
        mixed[:, :1, count:] = mirrored[:, :1].flip(2)
        mixed[:, 1:, count:] = mirrored[:, 1:].flip(1, 2)
        return mixed

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Gradients need nothing of it."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        mixed: Tensor = _RealTransform.apply(gradients[0])
        return mixed


class Fourier(Configured):
    """The real part of the transform over tokens and channels. There is no mask: padding is mixed in like text."""

    spells_attentions = False

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`matrix_length`: texts of that length are transformed by products with fixed matrices, the same otherwise."""

        hidden_size: int
        matrix_length: int | None = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """(batch, length, hidden) -> the same.

        Raises:
            ValueError: attention weights or a mask of heads are wanted.
        """
        if ctx.head_mask is not None or ctx.attentions is not None:
            raise ValueError("this architecture mixes tokens without attention: no head_mask, no output_attentions")
        wide = x if x.dtype == torch.float64 else x.float()
        if self.config.matrix_length != x.shape[1]:
            if torch.compiler.is_compiling():
                return torch.fft.fft2(wide, dim=(1, 2)).real.to(x.dtype)
            transformed: Tensor = _RealTransform.apply(wide)
            return transformed.to(x.dtype)
        tokens, channels = ctx.once("matrices", lambda: [transform_matrix(n).to(x.device) for n in x.shape[1:]])
        mixed: Tensor = (tokens @ wide.to(tokens.dtype) @ channels).real.to(x.dtype)
        return mixed
