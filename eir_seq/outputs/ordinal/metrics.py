"""Metrics of ordinal outputs. `eir_seq.outputs.ordinal.output` computes those without a function."""

from __future__ import annotations

from eir_seq.config.metrics import LOSS, Metric

METRICS = (
    LOSS,
    Metric(
        "kappa",
        "Quadratic kappa",
        "max",
        aliases=("qwk", "quadratic_kappa", "cohen_kappa", "quadratic_weighted_kappa", "weighted_kappa"),
    ),
    Metric("mae", "MAE of ranks", "min", "errors", aliases=("mean_absolute_error", "l1")),
    Metric("accuracy", "Accuracy", "max", share_of_rows=True, aliases=("acc", "accuracy_score")),
    Metric("spearman", "Spearman", "max", aliases=("spearmanr", "rho", "rank_correlation")),
)
HEADLINES = (("kappa", "mae", "accuracy", "spearman"), ("accuracy", "mae"))
