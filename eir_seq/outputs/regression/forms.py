"""What is predicted of each column of a regression, and its loss: a number, a rate, quantiles, or a Gaussian.

Everything here is in the units of the loss: standardized where the target is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from statistics import NormalDist

import torch
from torch import Tensor
from torch.nn import functional

from eir_seq.outputs.regression.config import RegressionOutputConfig
from eir_seq.outputs.regression.metrics import GAUSSIAN_LEVELS

LARGEST_LOG_RATE = 69.0
"""Rates above are cut: e^69 is about 1e30."""
SMALLEST_STEP = 1e-3
"""Distance at which two quantiles begin, at least, in standard deviations."""
SMALLEST_DEVIATION = 1e-4
"""Added to predicted standard deviations, as the likelihood of a row has no bound where they reach zero."""


class Form(ABC):
    """One kind of prediction of a column. Raw outputs are (..., width), targets (...)."""

    width: int = 1
    levels: tuple[float, ...] = ()
    """The levels of `bounds`, ascending; without levels there are none."""

    @abstractmethod
    def start(self, mean: float, deviation: float) -> list[float]:
        """Raw output, (width), that predicts a target of this mean and standard deviation: the head's first bias."""

    @abstractmethod
    def losses(self, raw: Tensor, target: Tensor) -> Tensor:
        """The loss of each target, (...)."""

    @abstractmethod
    def centre(self, raw: Tensor) -> Tensor:
        """The predicted number, (...)."""

    def bounds(self, raw: Tensor) -> Tensor:
        """The predicted quantiles at `levels`, (..., levels)."""
        return raw[..., :0]


class Point(Form):
    """A number."""

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        self._loss = loss

    def start(self, mean: float, deviation: float) -> list[float]:
        """The mean."""
        del deviation
        return [mean]

    def losses(self, raw: Tensor, target: Tensor) -> Tensor:
        """Squared error, absolute error, smooth L1 or Huber loss."""
        return self._loss(raw.squeeze(-1), target, reduction="none")

    def centre(self, raw: Tensor) -> Tensor:
        """The number itself."""
        return raw.squeeze(-1)


class Poisson(Form):
    """The log rate of a count."""

    def start(self, mean: float, deviation: float) -> list[float]:
        """The log of the mean."""
        del deviation
        return [math.log(mean)]

    def losses(self, raw: Tensor, target: Tensor) -> Tensor:
        """The negative log likelihood, without the term that depends on the target alone."""
        return functional.poisson_nll_loss(raw.squeeze(-1), target, log_input=True, reduction="none")

    def centre(self, raw: Tensor) -> Tensor:
        """The rate."""
        return raw.squeeze(-1).clamp(max=LARGEST_LOG_RATE).exp()


class Quantiles(Form):
    """Quantiles that never cross: the first raw output is the lowest, the others are steps (softplus) above it."""

    def __init__(self, levels: Sequence[float]) -> None:
        self.levels = tuple(levels)
        self.width = len(self.levels)

    def start(self, mean: float, deviation: float) -> list[float]:
        """Quantiles of a normal distribution."""
        found = [NormalDist().inv_cdf(level) for level in self.levels]
        steps = [max(high - low, SMALLEST_STEP) * deviation for low, high in pairwise(found)]
        return [mean + found[0] * deviation, *map(softplus_inverse, steps)]

    def losses(self, raw: Tensor, target: Tensor) -> Tensor:
        """The pinball loss, mean over the quantiles (Koenker and Bassett 1978)."""
        error = target[..., None] - self.bounds(raw)
        levels = torch.tensor(self.levels, dtype=error.dtype, device=error.device)
        return torch.maximum(levels * error, (levels - 1) * error).mean(dim=-1)

    def centre(self, raw: Tensor) -> Tensor:
        """The median."""
        return self.bounds(raw)[..., self.levels.index(0.5)]

    def bounds(self, raw: Tensor) -> Tensor:
        """The quantiles, (..., levels)."""
        return torch.cat([raw[..., :1], functional.softplus(raw[..., 1:])], dim=-1).cumsum(dim=-1)


class Gaussian(Form):
    """A mean and a standard deviation (Nix and Weigend 1994)."""

    width, levels = 2, GAUSSIAN_LEVELS

    def start(self, mean: float, deviation: float) -> list[float]:
        """That mean and deviation."""
        return [mean, softplus_inverse(deviation)]

    def losses(self, raw: Tensor, target: Tensor) -> Tensor:
        """The negative log likelihood."""
        deviation = self.deviation(raw)
        scaled = (target - raw[..., 0]) / deviation
        return 0.5 * scaled.square() + deviation.log() + 0.5 * math.log(2 * math.pi)

    def centre(self, raw: Tensor) -> Tensor:
        """The mean."""
        return raw[..., 0]

    def deviation(self, raw: Tensor) -> Tensor:
        """The standard deviation, (...)."""
        return functional.softplus(raw[..., 1]) + SMALLEST_DEVIATION

    def bounds(self, raw: Tensor) -> Tensor:
        """Its quantiles, (..., levels)."""
        steps = torch.tensor([NormalDist().inv_cdf(x) for x in self.levels], dtype=raw.dtype, device=raw.device)
        return raw[..., :1] + self.deviation(raw)[..., None] * steps


def softplus_inverse(value: float) -> float:
    """The number whose softplus is `value`, which is positive.

    Example:
        >>> import torch
        >>> round(float(torch.nn.functional.softplus(torch.tensor(softplus_inverse(0.3)))), 6)
        0.3
    """
    value = max(value, 1e-12)
    return value + math.log(-math.expm1(-value))


def form_of(config: RegressionOutputConfig) -> Form:
    """What a config has predicted."""
    if config.loss == "quantile":
        return Quantiles(config.quantiles)
    if config.loss in ("poisson", "gaussian"):
        return Poisson() if config.loss == "poisson" else Gaussian()
    losses: dict[str, Callable[..., Tensor]] = {
        "mse": functional.mse_loss,
        "mae": functional.l1_loss,
        "smooth-l1": partial(functional.smooth_l1_loss, beta=config.delta),
        "huber": partial(functional.huber_loss, delta=config.delta),
    }
    return Point(losses[config.loss])
