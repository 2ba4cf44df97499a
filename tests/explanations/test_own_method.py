"""The method that the page for plug-ins shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tests.readme import ROOT, write_named_files


def test_the_gradient_times_the_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_named_files(ROOT / "docs/guide/extend.md", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        from my_project.gradient import explain  # type: ignore[import-not-found]
        from my_project.gradient_config import GradientConfig  # type: ignore[import-not-found]

        config = GradientConfig(rows=2)
        assert (config.per_class, config.most_gradients, config.baseline) == (2, 1, "tokens")
        given = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        found = explain(config, lambda x: x.square().sum(dim=2), given, torch.zeros(2, 2))
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "my_project"]:
            del sys.modules[name]
    # twice the score of a square; each score is that of one position
    assert found.values.tolist() == [[10.0, 0.0], [0.0, 18.0]]
    assert found.score.tolist() == [5.0, 9.0]
    assert found.baseline.tolist() == [0.0, 0.0]
