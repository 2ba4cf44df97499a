"""How much each config key matters, over the settings that were compared."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eir_seq.config.packages import is_installed, missing_package

FEWEST = 8
"""Settings below which nothing can be said about importance."""
_FEW = 5
"""Up to that many numbers are choices rather than a range."""


@dataclass(frozen=True)
class Point:
    """A setting and its value: the mean over its repetitions."""

    settings: Mapping[str, Any]
    value: float


def importance(
    points: Sequence[Point], keys: Sequence[str], mode: str, logarithmic: Sequence[str] = ()
) -> dict[str, float] | str:
    """The share of each key in what makes the best tenth of the settings, by PED-ANOVA.

    Watanabe et al. 2023, arXiv:2304.10255, as Optuna has it; keys that only some settings have are measured over these.

    Args:
        points: settings and values.
        keys: of which to say how much they matter; at least two.
        mode: ``min`` or ``max``, whichever is better.
        logarithmic: keys with a logarithmic scale.

    Returns:
        Shares by key, the largest first, which add up to 1; or a sentence that says why there are none.

    Example:
        >>> points = [Point({"lr": lr, "seed": seed}, lr) for lr in (0.1, 0.2, 0.3) for seed in (1, 2, 3)]
        >>> importance(points, ["lr", "seed"], "max")["lr"] > 0.5
        True
    """
    if len(points) < FEWEST:
        return f"{len(points)} settings are too few to say which key matters ({FEWEST} are needed)."
    if not is_installed("optuna"):
        return f"Which key matters is not shown: {missing_package('optuna', extra='search')}"
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {
        key: _distribution([p.settings[key] for p in points if key in p.settings], key in logarithmic) for key in keys
    }
    study = optuna.create_study(direction="minimize" if mode == "min" else "maximize")
    trials = []
    for point in points:
        given = {key: _plain(point.settings[key]) for key in keys if key in point.settings}
        known = {key: distributions[key] for key in given}
        trials.append(optuna.create_trial(params=given, distributions=known, value=point.value))
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = optuna.importance.PedAnovaImportanceEvaluator().evaluate(study)
    total = sum(found.values())
    if not total > 0:
        return "No key separates the best settings from the others."
    return {key: value / total for key, value in sorted(found.items(), key=lambda item: -item[1])}


def _distribution(values: Sequence[Any], logarithmic: bool) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values) or len(set(numbers)) <= _FEW:
        return CategoricalDistribution(list(dict.fromkeys(map(_plain, values))))
    low, high = min(numbers), max(numbers)
    return FloatDistribution(float(low), float(high), log=logarithmic and low > 0)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)
