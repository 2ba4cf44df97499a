"""Optuna's samplers and pruners, as the settings of a search name them."""

from __future__ import annotations

from typing import Any

from eir_seq.config.sweep_settings import SweepConfig


def build_sampler(config: SweepConfig, seed: int) -> Any:
    """Optuna's sampler, with its own seed."""
    from optuna import samplers

    startup = config.startup_trials
    if config.sampler in ("random", "grid"):  # the points of a grid are fixed
        return samplers.RandomSampler(seed=seed)
    if config.sampler == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=startup)
    if config.sampler == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
    return samplers.CmaEsSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)


def build_pruner(config: SweepConfig) -> Any:
    """Optuna's pruner."""
    from optuna import pruners

    warmup, factor = config.pruner_warmup, config.reduction_factor
    if config.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=config.pruner_startup, n_warmup_steps=warmup)
    if config.pruner == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=warmup, reduction_factor=factor)
    if config.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=warmup, reduction_factor=factor)
    return pruners.NopPruner()
