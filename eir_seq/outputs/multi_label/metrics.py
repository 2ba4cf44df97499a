"""Metrics of multi-label classification. `eir_seq.outputs.multi_label.output` computes those without a function."""

from __future__ import annotations

from eir_seq.config.metrics import LOSS, Metric

METRICS = (
    LOSS,
    Metric("f1", "F1", "max", per_class=True, aliases=("f1_macro", "macro_f1", "f1_score")),
    Metric("f1_micro", "F1 (micro)", "max", aliases=("micro_f1",)),
    Metric("auroc", "AUROC", "max", per_class=True, aliases=("auc", "roc_auc", "auroc_macro", "roc_auc_macro")),
    Metric("auroc_micro", "AUROC (micro)", "max", aliases=("roc_auc_micro",)),
    Metric(
        "average_precision",
        "Average precision",
        "max",
        per_class=True,
        aliases=("ap", "map", "average_precision_macro", "lrap"),
    ),
    Metric("average_precision_micro", "Average precision (micro)", "max", aliases=("ap_micro",)),
    Metric(
        "exact_match", "Exact match", "max", share_of_rows=True, aliases=("subset_accuracy", "accuracy", "acc", "emr")
    ),
    Metric("hamming", "Hamming loss", "min", "errors", aliases=("hamming_loss",)),
    Metric("precision", "Precision", "max", per_class=True, overall=False),
    Metric("recall", "Recall", "max", per_class=True, overall=False),
)
HEADLINES = (("f1", "f1_micro", "average_precision", "exact_match"), ("exact_match", "hamming"))
