"""What `check` tells of a run without leaving one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.training.check import check, slow_precision, tried_batches
from eir_seq.training.run import train
from tests.training.table import table_experiment

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_tells_what_a_run_would_take(tmp_path: Path) -> None:
    result = train(table_experiment(tmp_path))
    found = check(table_experiment(tmp_path))
    assert found.rows == {"train": 48, "validation": 12, "test": 12}
    assert found.steps == result["steps"]
    assert found.parameters["total"] == sum(
        value for name, value in found.parameters.items() if name not in ("total", "trainable")
    )
    assert found.tokens["text"]["train"] > 48 * 3
    assert 0 < found.step_seconds < found.run_seconds
    assert found.memory_bytes >= 4 * 4 * found.parameters["total"]  # weights, gradients, two moments
    text = str(found)
    assert "12 steps, 6 batches per epoch" in text
    assert re.search(r"time +about .* ms a step, an estimate from 4 steps", text)
    assert "precision" not in text
    assert text.endswith("all is well")


@pytest.mark.parametrize(("seconds", "said"), [((1.0, 2.0), "0.5 times as fast"), ((2.0, 1.0), None)])
def test_it_says_where_bfloat16_is_slower(
    seconds: tuple[float, float], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([value for each in seconds for _ in range(5) for value in (0.0, each)])
    monkeypatch.setattr("eir_seq.training.check.time.perf_counter", lambda: next(times))
    found = slow_precision("bf16-mixed", torch.device("cpu"))
    assert found is None if said is None else found is not None and said in found
    assert slow_precision("32", torch.device("cpu")) is None
    assert slow_precision("bf16-mixed", torch.device("cuda")) is None


def test_batches_of_equal_cost_are_tried_twice_and_count_as_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tried_batches(np.array([3, 1, 3, 3, 2])) == [1, 2, 3]
    assert tried_batches(np.arange(100)) == [0, 50, 84, 99]
    peaks = iter([7_000_000_000, 9_000_000_000])  # after the first step, and after all of them
    monkeypatch.setattr("eir_seq.training.check._peak_resident", lambda: next(peaks))
    monkeypatch.setattr("eir_seq.training.check.batch_costs", lambda lengths, batches: np.ones(len(batches)))
    found = check(table_experiment(tmp_path))
    assert found.timed_steps == 2
    assert 2e9 < found.memory_bytes < 3e9
    assert "an estimate from 2 steps" in str(found)


def test_it_leaves_no_run(tmp_path: Path) -> None:
    check(table_experiment(tmp_path))
    assert not (tmp_path / "run").exists()


def test_it_and_a_run_warn_of_what_looks_wrong(tmp_path: Path) -> None:
    config = table_experiment(tmp_path, trainer={"max_epochs": 1})
    table = tmp_path / "train.csv"
    table.write_text(table.read_text().replace(",bad,", ",Good,", 12))
    warning = "outputs.mood.column: 'Good' ("
    found = check(config)
    assert [line[: len(warning)] for line in found.warnings] == [warning]
    assert str(found).endswith("all is well but for the warnings above")
    train(config)
    assert f"warning: {warning}" in (tmp_path / "run" / "log.txt").read_text()
    assert json.loads((tmp_path / "run" / "report" / "data.json").read_text())["warnings"] == list(found.warnings)
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["data"]["warnings"] == list(found.warnings)


def test_it_finds_faults(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fusion\.num_heads"):
        check(table_experiment(tmp_path, fusion={"type": "attention", "hidden_size": 9, "num_layers": 1}))
    with pytest.raises(UserError, match=r"trainer\.monitor\.metric: 'god' is not a class of outputs\.mood; .*'good'"):
        check(table_experiment(tmp_path, trainer={"monitor": {"output": "mood", "metric": "f1(god)"}}))
