"""Runs on streamed rows: killed and continued with equal bits, checked, refused, and flat in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file

from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import UserError
from eir_seq.inference.predictor import Predictor
from eir_seq.training.bundle import read_bundle
from eir_seq.training.check import check
from eir_seq.training.console import Console
from eir_seq.training.experiment import load_experiment
from eir_seq.training.run import train
from tests.data.stream.tables import streamed, write_shards

MODES: dict[str, dict[str, Any]] = {
    "counted": {"validation": 0.1, "trainer": {"max_epochs": 2, "checkpoint_every": 4}},
    "workers": {"validation": 0.1, "num_workers": 2, "trainer": {"max_epochs": 2, "checkpoint_every": 4}},
    "budget": {
        "validation": 30,
        "max_tokens": 150,
        "trainer": {"max_steps": 30, "validate_every": 10, "checkpoint_every": 4, "accumulate": 2},
    },
}


class Killed(BaseException):
    """Ends a run without any of its own endings."""


def outcome(run: Path) -> tuple[bytes, dict[str, torch.Tensor], str]:
    return (
        (run / "metrics.csv").read_bytes(),
        load_file(run / "bundle" / "model.safetensors"),
        (run / "predictions" / "validation.csv").read_text(),
    )


SLOW = [pytest.param(mode, marks=pytest.mark.slow) for mode in ("workers", "budget")]


@pytest.mark.parametrize("mode", ["counted", *SLOW])
def test_a_killed_run_continues_with_equal_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    shards = write_shards(tmp_path / "shards", 210, 3, 20)

    def config(name: str) -> ExperimentConfig:
        changes = {**MODES[mode], "trainer": dict(MODES[mode]["trainer"])}
        return streamed(shards, tmp_path, **changes).model_copy(
            update={
                "run": ExperimentConfig.model_fields["run"].default.model_copy(update={"dir": str(tmp_path / name)})
            }
        )

    train(config("whole"))
    step = Console.step
    for last in (6, 21):

        def killed(self: Console, number: int, *others: Any, at: int = last) -> None:
            if number == at:
                raise Killed
            step(self, number, *others)

        monkeypatch.setattr(Console, "step", killed)
        with pytest.raises(Killed):
            train(config("killed"))
        monkeypatch.undo()
    train(config("killed"))
    whole, again = outcome(tmp_path / "whole"), outcome(tmp_path / "killed")
    assert again[0] == whole[0]
    assert again[1].keys() == whole[1].keys()
    assert all(torch.equal(again[1][name], whole[1][name]) for name in whole[1])
    assert again[2] == whole[2]


@pytest.mark.slow
def test_a_run_learns_and_its_bundle_predicts(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", 400, 2)
    config = streamed(
        shards, tmp_path, validation=0.2, trainer={"max_epochs": 3}, optimizer={"lr": 0.01, "type": "adamw"}
    )
    result = train(config)
    assert result["validation"]["mood"]["accuracy"] > 0.95
    predicted = Predictor(read_bundle(tmp_path / "run" / "bundle")).predict([{"text": "good a b"}, {"text": "bad a b"}])
    assert [row["mood"] for row in predicted] == ["good", "bad"]


def test_a_trainer_of_your_own_has_counted_epochs(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", 100, 2)
    own = load_experiment(streamed(shards, tmp_path))
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(own.module, own.data)
    assert trainer.global_step == 2 * own.data.batches_per_epoch == 14
    budget = load_experiment(streamed(shards, tmp_path, max_tokens=150, trainer={"max_steps": 3, "validate_every": 3}))
    with pytest.raises(UserError, match=r"data.streaming: needs a run where batches are not counted"):
        trainer.fit(budget.module, budget.data)


def test_check_says_how_many_rows_are_streamed(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", 200, 2)
    found = check(streamed(shards, tmp_path, validation=0.1, fit_rows=50))
    assert found.rows["train"] + found.rows["validation"] == 200
    assert found.batches_per_epoch == -(-found.rows["train"] // 16)
    assert found.steps == 2 * found.batches_per_epoch


def test_columns_may_be_left_to_the_data(tmp_path: Path) -> None:
    table = [{"size": row * 1.5, "colour": "rgb"[row % 3], "mood": ("a", "b")[row % 2]} for row in range(120)]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "table.parquet", row_group_size=20)
    inputs = {"cells": {"type": "tabular", "columns": "auto"}}
    result = train(streamed(tmp_path / "table.parquet", tmp_path, id=None, inputs=inputs, trainer={"max_epochs": 1}))
    assert result["status"] == "finished"
