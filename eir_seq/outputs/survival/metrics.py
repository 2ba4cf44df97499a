"""Metrics of survival; `eir_seq.outputs.survival.output` computes them."""

from __future__ import annotations

from eir_seq.config.metrics import LOSS, Metric

METRICS = (
    LOSS,
    Metric(
        "c_index",
        "C-index",
        "max",
        per_class=True,
        aliases=("concordance", "concordance_index", "cindex", "c-index", "harrell"),
    ),
    Metric("c_index_ipcw", "C-index (IPCW)", "max", per_class=True, aliases=("uno", "concordance_index_ipcw")),
    Metric("auc", "AUC over time", "max", per_class=True, aliases=("td_auc", "time_dependent_auc", "auroc")),
    Metric(
        "integrated_brier",
        "Integrated Brier score",
        "min",
        "brier",
        per_class=True,
        aliases=("ibs", "integrated_brier_score", "brier"),
    ),
)
HEADLINES = (("c_index", "auc", "integrated_brier"), ("c_index", "c_index_ipcw", "auc"))
