"""Metrics of classification. `eir_seq.outputs.classification.output` computes those without a function."""

from __future__ import annotations

from eir_seq.config.metrics import LOSS, Metric

METRICS = (
    LOSS,
    Metric(
        "accuracy",
        "Accuracy",
        "max",
        share_of_rows=True,
        aliases=("acc", "top1", "top_1", "accuracy_score", "token_accuracy"),
    ),
    Metric("balanced_accuracy", "Balanced accuracy", "max", aliases=("bacc", "bac", "balanced_acc", "uar")),
    Metric(
        "f1",
        "F1",
        "max",
        per_class=True,
        aliases=("f1_macro", "macro_f1", "f1_score", "fscore", "f_score", "f_measure"),
    ),
    Metric("mcc", "MCC", "max", aliases=("matthews", "matthews_corrcoef", "matthews_correlation", "phi")),
    Metric(
        "auroc",
        "AUROC",
        "max",
        per_class=True,
        aliases=("auc", "roc_auc", "rocauc", "roc", "auc_roc", "roc_auc_score"),
    ),
    Metric(
        "average_precision",
        "Average precision",
        "max",
        per_class=True,
        aliases=("ap", "map", "auprc", "aucpr", "pr_auc", "prauc", "auc_pr"),
    ),
    Metric("cost", "Mean cost", "min", "cost", aliases=("expected_cost", "mean_cost")),
    Metric("precision", "Precision", "max", per_class=True, overall=False),
    Metric("recall", "Recall", "max", per_class=True, overall=False),
)
HEADLINES = (("accuracy", "f1", "mcc", "auroc"),)
