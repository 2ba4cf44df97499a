"""The functions of torchmetrics that outputs use, imported without all others (`eir_seq.deferred`).

Outputs import this module where they evaluate: it takes half a second, which a check of an experiment does not need.
"""

# ruff: noqa: E402

from eir_seq.deferred import defer_torchmetrics

defer_torchmetrics()

from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
)
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.functional.regression import (
    mean_absolute_error,
    mean_squared_error,
    pearson_corrcoef,
    spearman_corrcoef,
)

__all__ = [
    "mean_absolute_error",
    "mean_squared_error",
    "multiclass_confusion_matrix",
    "pearson_corrcoef",
    "spearman_corrcoef",
    "structural_similarity_index_measure",
]
