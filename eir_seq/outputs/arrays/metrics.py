"""Metrics of outputs of arrays and pictures, which `eir_seq.outputs.arrays.forms` computes."""

from __future__ import annotations

from eir_seq.config.metrics import LOSS, Metric

NUMBERS = (
    Metric("mse", "MSE", "min", "squared errors", aliases=("mean_squared_error", "rmse")),
    Metric("mae", "MAE", "min", "errors", aliases=("mean_absolute_error", "l1")),
    Metric(
        "r2",
        "R²",
        "max",
        aliases=("r_2", "r^2", "rsquared", "r_squared", "r2_score", "explained_variance"),
    ),
    Metric("cosine", "Cosine similarity", "max", aliases=("cosine_similarity", "cos")),
)
"""Of arrays of numbers."""
CLASSES = (
    Metric("accuracy", "Accuracy per element", "max", aliases=("acc", "element_accuracy")),
    Metric("dice", "Dice", "max", per_class=True, aliases=("f1", "macro_f1", "dice_score")),
    Metric("mcc", "MCC", "max", aliases=("matthews", "matthews_corrcoef")),
)
"""Of arrays of classes."""
PICTURES = (
    Metric("psnr", "PSNR", "max", "PSNR", aliases=("peak_signal_noise_ratio",)),
    Metric("ssim", "SSIM", "max", aliases=("structural_similarity",)),
)
"""Of pictures."""
ARRAY_METRICS = (LOSS, *NUMBERS, *CLASSES)
PICTURE_METRICS = (LOSS, *NUMBERS, *PICTURES)
HEADLINES = (("r2", "mse", "mae", "cosine"), ("accuracy", "dice", "mcc"))
