"""From noise to samples, step by step: DDPM, DDIM and DPM-Solver++."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from eir_seq.outputs.diffusion.config import DiffusionOptions


def inference_times(steps: int, count: int) -> list[int]:
    """The levels at which samples are denoised, evenly spaced from the last one down.

    They begin where training ends, at noise alone ("trailing" spacing, Lin et al. 2023, arXiv:2305.08891).

    Example:
        >>> inference_times(1000, 4)
        [999, 749, 499, 249]
    """
    return [round(steps - number * steps / count) - 1 for number in range(count)]


def draw_samples(
    options: DiffusionOptions,
    kept: Tensor,
    clean: Callable[[Tensor, int], Tensor],
    noise: Callable[[], Tensor],
) -> Tensor:
    """Samples, (rows, ...), by the sampler of `options`.

    Args:
        options: sampler, number of steps, eta.
        kept: the share of the signal in the variance at each level of training, (steps,).
        clean: noisy samples and their level to an estimate of the clean ones.
        noise: normal noise for all rows, (rows, ...), new at each call.
    """
    times = inference_times(options.steps, options.inference_steps)
    shares = [*kept.double()[times].tolist(), 1.0]
    if options.sampler == "dpm-solver":
        return _dpm_solver(times, shares, clean, noise())
    eta = 1.0 if options.sampler == "ddpm" else options.eta  # DDIM with eta 1 has the mean and variance of DDPM
    return _ddim(times, shares, eta, clean, noise)


def _ddim(
    times: list[int],
    shares: list[float],
    eta: float,
    clean: Callable[[Tensor, int], Tensor],
    noise: Callable[[], Tensor],
) -> Tensor:
    """Song et al. 2021, arXiv:2010.02502, equations 12 and 16."""
    x = noise()
    for time, share, after in zip(times, shares, shares[1:], strict=False):
        estimate = clean(x, time)
        direction = (x - math.sqrt(share) * estimate) / math.sqrt(1 - share)
        variance = eta**2 * (1 - after) / (1 - share) * (1 - share / after)
        x = math.sqrt(after) * estimate + math.sqrt(max(0.0, 1 - after - variance)) * direction
        if variance > 0:
            x = x + math.sqrt(variance) * noise()
    return x


def _dpm_solver(times: list[int], shares: list[float], clean: Callable[[Tensor, int], Tensor], x: Tensor) -> Tensor:
    """DPM-Solver++(2M), Lu et al. 2022, arXiv:2211.01095, algorithm 2; the last step gives the estimate itself."""
    half_log_ratios = [0.5 * (math.log(share) - math.log1p(-share)) for share in shares[:-1]]
    before: Tensor | None = None
    for place, time in enumerate(times):
        estimate = clean(x, time)
        if place == len(times) - 1:
            return estimate
        share, after = shares[place], shares[place + 1]
        h = half_log_ratios[place + 1] - half_log_ratios[place]
        extrapolated = estimate
        if before is not None:
            ratio = (half_log_ratios[place] - half_log_ratios[place - 1]) / h
            extrapolated = estimate + (estimate - before) / (2 * ratio)
        x = math.sqrt((1 - after) / (1 - share)) * x - math.sqrt(after) * math.expm1(-h) * extrapolated
        before = estimate
    raise AssertionError("no steps")


def row_noise(generators: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Normal noise, (rows, *shape), on the CPU: each row's by its own generator, whatever rows are beside it."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])
