"""A learning rate that falls when the monitored value no longer improves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eir_seq.config.optimization import PlateauConfig


def warmup(config: PlateauConfig, total: int) -> Callable[[int], float]:
    """The factor on the learning rate before any reduction: a linear warm-up, then 1."""
    steps = warmup_steps(config, total)
    return lambda step: (step + 1) / (steps + 1) if step < steps else 1.0


def warmup_steps(config: PlateauConfig, total: int) -> int:
    """Steps of the warm-up in a run of `total` steps."""
    return config.warmup if isinstance(config.warmup, int) else round(config.warmup * total)


Better = Callable[[float, float | None, float], bool]
"""Whether a value is better than another one (None: than none) by more than a third."""


@dataclass
class Plateau:
    """The state of a plateau schedule; counts as `torch.optim.lr_scheduler.ReduceLROnPlateau`."""

    factor: float = 1.0
    """On the learning rate."""
    best: float | None = None
    without_improvement: int = 0
    cooldown: int = 0
    """Evaluations that are still not counted."""

    def evaluated(
        self, value: float, config: PlateauConfig, better: Callable[[float, float | None, float], bool]
    ) -> bool:
        """Count an evaluation after the warm-up; returns whether it reduced the rate.

        Args:
            value: the monitored value.
            config: the schedule.
            better: what an improvement is.
        """
        if better(value, self.best, config.min_delta):
            self.best, self.without_improvement = value, 0
        else:
            self.without_improvement += 1
        if self.cooldown:
            self.cooldown -= 1
            self.without_improvement = 0
        if self.without_improvement <= config.patience:
            return False
        self.cooldown, self.without_improvement = config.cooldown, 0
        before, self.factor = self.factor, max(self.factor * config.factor, config.min_ratio)
        return self.factor < before
