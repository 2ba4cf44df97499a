"""The head of outputs that generate by diffusion: the loss of a U-Net that denoises targets, and samples of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eir_seq.outputs.diffusion.config import DiffusionOptions
from eir_seq.outputs.diffusion.noise import Noise
from eir_seq.outputs.diffusion.samplers import draw_samples, row_noise
from eir_seq.outputs.diffusion.unet import UNet
from eir_seq.randomness import derive_seed

EVALUATED_LEVELS = 4
"""Noise levels of a row in an evaluation, one in each quarter of the steps."""


class DiffusionHead(nn.Module):
    """Fused features are the condition under which a U-Net denoises.

    Values of inputs may be a further one: in the size of the sample they are channels beside it, as in Saharia et al.
    2021 (arXiv:2104.07636), so that details of the inputs are there at every level of the U-Net.

    Args:
        shape: of a target: (channels, *sides). Sides of 1 are left out within, as convolutions need no such axes.
        condition_size: width of the fused features.
        options: see there.
        standardized: stored targets, (batch, *shape), to values that have a variance of about one, zeros where a target
            lacks, and where it does not.
        bounds: least and greatest of these values, (*shape), within which `clip` keeps estimates.
        dropout: of the fused features.
        grids: by input that the U-Net reads, channels, height and width of its values.
    """

    least: Tensor | None
    greatest: Tensor | None
    reads_target = True
    """The network calls ``head(features, target, rows)``; see `eir_seq.training.network.Network`."""

    def __init__(
        self,
        shape: Sequence[int],
        condition_size: int,
        options: DiffusionOptions,
        standardized: Callable[[Tensor], tuple[Tensor, Tensor]],
        bounds: tuple[Tensor, Tensor] | None = None,
        *,
        dropout: float = 0.0,
        grids: Mapping[str, Sequence[int]] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        channels, *sides = shape
        self.shape, self.options, self.standardized = tuple(shape), options, standardized
        self.inner = (channels, *([side for side in sides if side > 1] or [1]))
        self.noise = Noise(options.beta_schedule, options.steps, options.prediction)
        self.channels = {name: grid[0] for name, grid in grids.items()}
        read = (channels + sum(self.channels.values()), *self.inner[1:])
        self.unet = UNet(read, condition_size, options.unet, predicted=channels)
        self.dropout = nn.Dropout(dropout)
        for name, bound in zip(("least", "greatest"), bounds or (None, None), strict=True):
            self.register_buffer(name, None if bound is None else bound.reshape(self.inner), persistent=False)
        self.no_condition = nn.Parameter(torch.zeros(condition_size)) if options.condition_dropout else None

    def forward(
        self,
        condition: Tensor,
        target: Tensor | None = None,
        rows: Tensor | None = None,
        values: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Tensor:
        """The squared error of what the U-Net predicts, by row: (batch, 1); zeros without targets.

        In training a row gets a level and noise by torch's generator, which the step seeds. In evaluation these depend
        on its position in the split alone, so that losses of several evaluations can be compared.

        Args:
            condition: fused features, (batch, condition_size).
            target: as it is stored, (batch, *shape).
            rows: positions of the rows in their split, (batch,); by default their places in the batch.
            values: of inputs, each (batch, channels, height, width); zeros for one that is not there.
        """
        if target is None:
            return condition.new_zeros(len(condition), 1)
        clean, known = (x.reshape(-1, *self.inner) for x in self.standardized(target))
        beside = self._beside(values, clean)
        if self.training:
            times = torch.randint(self.noise.steps, (len(clean),), device=clean.device)
            noise = torch.randn_like(clean)
            return self._errors(clean, known, noise, times, *self._dropped(condition, beside))[:, None]
        places = range(len(clean)) if rows is None else rows.tolist()
        generators = row_generators(0, "diffusion levels", places)
        offsets = torch.cat([torch.rand(1, generator=generator) for generator in generators])
        found = torch.zeros(len(clean), device=clean.device)
        for level in range(EVALUATED_LEVELS):
            times = ((level + offsets) / EVALUATED_LEVELS * self.noise.steps).long().clamp(max=self.noise.steps - 1)
            noise = row_noise(generators, self.inner).to(clean.device)
            found += self._errors(clean, known, noise, times.to(clean.device), condition, beside)
        return (found / EVALUATED_LEVELS)[:, None]

    def sample(
        self,
        condition: Tensor,
        generators: Sequence[torch.Generator],
        options: DiffusionOptions | None = None,
        values: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Tensor:
        """Samples under conditions (rows, condition_size), (rows, *shape).

        Args:
            condition: fused features.
            generators: of the noise of each row.
            options: of the sampler, in place of those of training.
            values: of inputs, see `forward`.
        """
        options, device = options or self.options, condition.device
        guided = options.guidance != 1
        beside = self._beside(values, condition.new_zeros(len(condition), *self.inner, dtype=torch.float32))
        if guided:
            assert self.no_condition is not None
            condition = torch.cat([self.no_condition.expand_as(condition).to(condition.dtype), condition])
            beside = torch.cat([torch.zeros_like(beside), beside])

        def clean(noisy: Tensor, time: int) -> Tensor:
            read = _joined(torch.cat([noisy, noisy]) if guided else noisy, beside)
            predicted: Tensor = self.unet(read, torch.full((len(read),), time, device=device), condition).float()
            if guided:  # Ho and Salimans 2022, arXiv:2207.12598
                without, given = predicted.chunk(2)
                predicted = without + options.guidance * (given - without)
            estimate = self.noise.clean(noisy, predicted, torch.full((len(noisy),), time, device=device))
            if not options.clip or self.least is None or self.greatest is None:
                return estimate
            return estimate.clamp(self.least, self.greatest)

        def noise() -> Tensor:
            return row_noise(generators, self.inner).to(device)

        drawn = draw_samples(options, self.noise.kept, clean, noise)
        return drawn.reshape(-1, *self.shape)

    def _errors(
        self, clean: Tensor, known: Tensor, noise: Tensor, times: Tensor, condition: Tensor, beside: Tensor
    ) -> Tensor:
        """The mean squared error of each row over the values that it has, (batch,)."""
        read = _joined(self.noise.add(clean, noise, times), beside)
        predicted: Tensor = self.unet(read, times, condition).float()
        squares = (predicted - self.noise.target(clean, noise, times)).square() * known
        return squares.flatten(1).sum(dim=1) / known.flatten(1).sum(dim=1).clamp(min=1)

    def _beside(self, values: Mapping[str, Tensor], sample: Tensor) -> Tensor:
        """Values of inputs in the height and width of a sample, (batch, channels of all, *sides)."""
        found = [sample[:, :0]]
        for name, channels in self.channels.items():
            there = values.get(name)
            if there is None:
                found.append(sample.new_zeros(len(sample), channels, *self.inner[1:]))
            else:
                size = tuple(self.shape[1:])
                if there.shape[2:] != size:
                    there = F.interpolate(there.float(), size, mode="bilinear", antialias=True)
                found.append(there.to(sample.dtype).reshape(len(sample), channels, *self.inner[1:]))
        return torch.cat(found, dim=1)

    def _dropped(self, condition: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
        """The condition of each row, or the learned vector in its place and zeros in that of the values."""
        condition = self.dropout(condition)
        if self.no_condition is None:
            return condition, beside
        drops = torch.rand(len(condition), 1, device=condition.device) < self.options.condition_dropout
        kept = (~drops).reshape(-1, *(1,) * (beside.dim() - 1))
        return torch.where(drops, self.no_condition.to(condition.dtype), condition), beside * kept


def _joined(noisy: Tensor, beside: Tensor) -> Tensor:
    return torch.cat([noisy, beside], dim=1) if beside.shape[1] else noisy


def row_generators(seed: int, purpose: str, rows: Sequence[int | str]) -> list[torch.Generator]:
    """A generator for each row, which depends on the seed, the purpose and the row alone."""
    return [torch.Generator().manual_seed(derive_seed(seed, purpose, row)) for row in rows]
