"""Mixing of tokens by a Fourier transform (FNet, https://arxiv.org/abs/2105.03824, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.context import Context


def transform_matrix(size: int) -> Tensor:
    """(size, size) complex: the discrete Fourier transform of vectors of length `size` as a product."""
    places = torch.arange(size, dtype=torch.float64)
    angles = -2 * torch.pi * (places[:, None] * places[None] % size) / size
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


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
            return torch.fft.fft2(wide, dim=(1, 2)).real.to(x.dtype)
        tokens, channels = ctx.once("matrices", lambda: [transform_matrix(n).to(x.device) for n in x.shape[1:]])
        mixed: Tensor = (tokens @ wide.to(tokens.dtype) @ channels).real.to(x.dtype)
        return mixed
