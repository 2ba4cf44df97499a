"""Metrics of tags. `eir_seq.outputs.token_classification.output` computes those without a function."""

from __future__ import annotations

from eir_seq.config.metrics import LOSS, Metric

METRICS = (
    LOSS,
    Metric("accuracy", "Accuracy", "max", aliases=("acc", "token_accuracy", "accuracy_score")),
    Metric("f1", "F1", "max", aliases=("f1_macro", "macro_f1", "f1_score", "fscore", "f_score", "f_measure")),
    Metric("f1_micro", "F1 (micro)", "max", aliases=("micro_f1",)),
    Metric("entity_f1", "F1 of entities", "max", aliases=("seqeval", "span_f1", "ner_f1", "overall_f1")),
    Metric("entity_precision", "Precision of entities", "max", aliases=("precision", "overall_precision")),
    Metric("entity_recall", "Recall of entities", "max", aliases=("recall", "overall_recall")),
    Metric("read", "Words read", "max", monitored=False),
)
HEADLINES = (("entity_f1", "entity_precision", "entity_recall", "accuracy"), ("accuracy", "f1", "f1_micro"))
