"""AUROC and average precision against torchmetrics, to the last bit."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from eir_seq.outputs.classes import ranking


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [None, 1, 2, 7])
@pytest.mark.parametrize("rows", [2, 3, 16, 17, 100, 1001])
def test_areas_are_those_of_torchmetrics(
    rows: int, levels: int | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "POINTS", 16)
    draw = torch.Generator().manual_seed(rows)
    scores = torch.rand(rows, generator=draw, dtype=dtype)
    positive = torch.rand(rows, generator=draw) < 0.1 + 0.8 * scores
    if levels is not None:  # rows that share a score
        scores = (scores * levels).round() / levels
    positive[:2] = torch.tensor([True, False])
    label = positive.long()
    expected = float(binary_auroc(scores, label)), float(binary_average_precision(scores, label))
    assert ranking.auroc_and_average_precision(scores, positive) == expected
