"""Other names under which people look for a metric."""

from __future__ import annotations

import re
from collections.abc import Iterable

from eir_seq.errors import nearest

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "accuracy": ("acc", "top1", "top_1", "accuracy_score", "token_accuracy"),
    "balanced_accuracy": ("bacc", "bac", "balanced_acc", "uar"),
    "f1": ("f1_macro", "macro_f1", "f1_score", "fscore", "f_score", "f_measure"),
    "f1_micro": ("micro_f1",),
    "entity_f1": ("seqeval", "span_f1", "ner_f1", "overall_f1"),
    "entity_precision": ("precision", "overall_precision"),
    "entity_recall": ("recall", "overall_recall"),
    "mcc": ("matthews", "matthews_corrcoef", "matthews_correlation", "phi"),
    "auroc": ("auc", "roc_auc", "rocauc", "roc", "auc_roc", "roc_auc_score"),
    "average_precision": ("ap", "map", "auprc", "aucpr", "pr_auc", "prauc", "auc_pr"),
    "rmse": ("mse", "mean_squared_error", "root_mean_squared_error"),
    "mae": ("mean_absolute_error", "l1"),
    "r2": ("r_2", "r^2", "rsquared", "r_squared", "r2_score"),
    "pearson": ("pearsonr", "pearson_r", "pcc", "corr", "correlation", "r"),
    "spearman": ("spearmanr", "spearman_r", "rho", "rank_correlation"),
    "perplexity": ("ppl", "pplx"),
    "bits_per_byte": ("bpb", "bpc", "bits_per_character"),
    "bleu": ("sacrebleu", "bleu_score"),
    "chrf": ("chrf2",),
    "rougeL": ("rouge", "rouge_l"),
    "rougeLsum": ("rouge_lsum",),
    "rouge1": ("rouge_1",),
    "rouge2": ("rouge_2",),
    "exact_match": ("em", "exact", "sequence_accuracy"),
    "loss": ("cross_entropy", "nll", "ce", "bce", "total_loss"),
}
"""By the metric's name here. A related metric stands for one that is not measured (rmse for mse: the same order)."""

_SPLIT = re.compile(r"(val|valid|validation|eval|dev|test)[_/-]")


def nearest_metric(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for what is called `name` elsewhere, or for the nearest of the `known` names."""
    known = list(known)
    wanted = _SPLIT.sub("", name.casefold().strip(), count=1).replace("-", "_").replace(" ", "_")
    for metric in known:
        if wanted == metric.casefold() or wanted in OTHER_NAMES.get(metric, ()):
            return f"; did you mean {metric!r}?"
    return nearest(wanted, known)
