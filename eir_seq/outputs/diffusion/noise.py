"""The noise of diffusion: how much there is at each step of training, and what the network predicts of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from eir_seq.outputs.diffusion.config import BetaSchedule, Prediction

SMALLEST, LARGEST = 1e-4, 0.02
"""The first and last variance of 1,000 steps (Ho et al. 2020, arXiv:2006.11239)."""
MOST = 0.999
"""Above which no variance goes (Nichol and Dhariwal 2021, arXiv:2102.09672)."""


def betas(schedule: BetaSchedule, steps: int) -> Tensor:
    """The variance of the noise that each step adds, float64 (steps,).

    The range is that of 1,000 steps; fewer steps add more each, so that little of the signal is left at the end of any
    number of steps (as in the code of Nichol and Dhariwal 2021).

    Example:
        >>> [round(float(beta), 4) for beta in betas("linear", 1000)[[0, -1]]]
        [0.0001, 0.02]
    """
    if schedule == "cosine":
        place = torch.arange(steps + 1, dtype=torch.float64) / steps
        signal = torch.cos((place + 0.008) / 1.008 * math.pi / 2) ** 2
        found = 1 - signal[1:] / signal[:-1]
    else:
        first, last = SMALLEST * 1000 / steps, LARGEST * 1000 / steps
        if schedule == "linear":
            found = torch.linspace(first, last, steps, dtype=torch.float64)
        elif schedule == "scaled-linear":
            found = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2
        else:
            found = torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid() * (last - first) + first
    return found.clamp(max=MOST)


class Noise(nn.Module):
    """Mixes samples with normal noise: ``signal(t) x + noise(t) e``, with ``signal(t)^2 + noise(t)^2 = 1``.

    Args:
        schedule: how the noise grows.
        steps: number of levels, ``t`` from 0 (almost clean) to ``steps - 1`` (almost noise alone).
        prediction: what the network predicts: ``e``, or the velocity ``signal(t) e - noise(t) x`` (Salimans and Ho
            2022, arXiv:2202.00512).

    Example:
        >>> noise = Noise("cosine", 100, "v")
        >>> x, e, t = torch.ones(2, 1, 4), torch.zeros(2, 1, 4), torch.tensor([0, 99])
        >>> mixed = noise.add(x, e, t)
        >>> torch.allclose(noise.clean(mixed, noise.target(x, e, t), t), x)
        True
    """

    signal: Tensor
    noise: Tensor
    kept: Tensor

    def __init__(self, schedule: BetaSchedule, steps: int, prediction: Prediction) -> None:
        super().__init__()
        self.steps, self.prediction = steps, prediction
        kept = (1 - betas(schedule, steps)).cumprod(dim=0)  # the share of the signal in the variance
        self.register_buffer("kept", kept.float(), persistent=False)
        self.register_buffer("signal", kept.sqrt().float(), persistent=False)
        self.register_buffer("noise", (1 - kept).sqrt().float(), persistent=False)

    def add(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Noisy samples, (rows, ...), at the levels `times`, (rows,)."""
        signal, deviation = self._of(times, clean)
        return signal * clean + deviation * noise

    def target(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the network is to predict of them, (rows, ...)."""
        if self.prediction == "epsilon":
            return noise
        signal, deviation = self._of(times, clean)
        return signal * noise - deviation * clean

    def clean(self, noisy: Tensor, predicted: Tensor, times: Tensor) -> Tensor:
        """The estimate of the clean samples, (rows, ...), by what the network predicted."""
        signal, deviation = self._of(times, noisy)
        if self.prediction == "epsilon":
            return (noisy - deviation * predicted) / signal
        return signal * noisy - deviation * predicted

    def _of(self, times: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *(1,) * (like.dim() - 1))
        return self.signal[times].reshape(shape), self.noise[times].reshape(shape)
