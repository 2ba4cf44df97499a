"""Metrics of regression. `eir_seq.outputs.regression.output` computes those without a function."""

from __future__ import annotations

from eir_seq.config.metrics import LOSS, Metric

METRICS = (
    LOSS,
    Metric("mae", "MAE", "min", "errors", per_class=True, aliases=("mean_absolute_error", "l1")),
    # The mean squared error has the same order.
    Metric(
        "rmse",
        "RMSE",
        "min",
        "errors",
        per_class=True,
        aliases=("mse", "mean_squared_error", "root_mean_squared_error"),
    ),
    Metric("mape", "MAPE", "min", "relative errors", per_class=True, aliases=("mean_absolute_percentage_error",)),
    Metric("r2", "R²", "max", per_class=True, aliases=("r_2", "r^2", "rsquared", "r_squared", "r2_score")),
    Metric("explained_variance", "Explained variance", "max", per_class=True, aliases=("evs", "ev")),
    Metric(
        "pearson",
        "Pearson",
        "max",
        per_class=True,
        aliases=("pearsonr", "pearson_r", "pcc", "corr", "correlation", "r"),
    ),
    Metric(
        "spearman",
        "Spearman",
        "max",
        per_class=True,
        aliases=("spearmanr", "spearman_r", "rho", "rank_correlation"),
    ),
    Metric("coverage", "Coverage", "max", "coverage", per_class=True, monitored=False),
    Metric("calibration_error", "Calibration error", "min", "coverage", per_class=True, aliases=("miscalibration",)),
    Metric("interval_width", "Width of the interval", "min", "width of the interval", per_class=True, monitored=False),
)
GAUSSIAN_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Levels at which the calibration of Gaussians is measured; the outermost ones bound the interval of 90 %."""
HEADLINES = (("rmse", "mae", "r2", "spearman"),)
