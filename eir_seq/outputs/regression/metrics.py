"""Metrics of regression. `eir_seq.outputs.regression.output` computes those without a function."""

from __future__ import annotations

from eir_seq.config.metrics import LOSS, Metric

METRICS = (
    LOSS,
    Metric("mae", "MAE", "min", "errors", aliases=("mean_absolute_error", "l1")),
    # The mean squared error has the same order.
    Metric("rmse", "RMSE", "min", "errors", aliases=("mse", "mean_squared_error", "root_mean_squared_error")),
    Metric("r2", "R²", "max", aliases=("r_2", "r^2", "rsquared", "r_squared", "r2_score")),
    Metric("pearson", "Pearson", "max", aliases=("pearsonr", "pearson_r", "pcc", "corr", "correlation", "r")),
    Metric("spearman", "Spearman", "max", aliases=("spearmanr", "spearman_r", "rho", "rank_correlation")),
)
HEADLINES = (("rmse", "mae", "r2", "spearman"),)
