"""The module and the data module of an experiment in a user's own ``lightning.Trainer``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from eir_seq.errors import UserError
from eir_seq.training.experiment import Experiment, load_experiment
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.run import train
from tests.training.table import table_experiment


def trainer(folder: Path, **options: Any) -> lightning.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    fixed: dict[str, Any] = {"logger": False, "accelerator": "cpu", "devices": 1, "default_root_dir": folder}
    return lightning.Trainer(**{**fixed, **quiet, **options})


def weights(experiment: Experiment) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in experiment.module.network.state_dict().items()}


@pytest.fixture
def config(tmp_path: Path) -> Any:
    return table_experiment(tmp_path, trainer={"keep_optimizer_state": True})


@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_trains_as_a_run_does(accumulate: int, config: Any, tmp_path: Path) -> None:
    config = table_experiment(tmp_path, trainer={"accumulate": accumulate})
    train(config)
    run = {(m.split, m.output, m.metric): m.value for m in read_metrics(tmp_path / "run" / "metrics.csv")}
    experiment = load_experiment(config)
    own = trainer(tmp_path, max_epochs=2, accumulate_grad_batches=accumulate, num_sanity_val_steps=2)
    own.fit(experiment.module, experiment.data)
    logged = own.callback_metrics
    names = {key for key in logged if key.startswith("validation/")}
    assert {"validation/loss", "validation/mood/accuracy", "validation/score/rmse"} <= names
    for (split, output, metric), value in run.items():
        if split == "validation":  # of the last epoch, of which metrics.csv has the later line
            # Lightning keeps what is logged in 32 bits.
            assert float(logged["/".join(filter(None, (split, output, metric)))]) == pytest.approx(value, rel=1e-6)


def test_it_tests_and_predicts(config: Any, tmp_path: Path) -> None:
    experiment = load_experiment(config)
    own = trainer(tmp_path, max_epochs=1, limit_train_batches=2, limit_val_batches=1)
    own.fit(experiment.module, experiment.data)
    (measured,) = own.test(experiment.module, experiment.data, verbose=False)
    assert {"test/loss", "test/mood/accuracy"} <= measured.keys()
    predicted: Any = own.predict(experiment.module, experiment.data)
    assert sorted(row for batch in predicted for row in batch["id"]) == sorted(f"test-{row}" for row in range(12))
    assert all(len(column) == len(batch["id"]) for batch in predicted for column in batch["mood"].values())


def test_its_checkpoints_resume_exactly(config: Any, tmp_path: Path) -> None:
    whole = load_experiment(config)
    keep = ModelCheckpoint(tmp_path / "kept", filename="{step}", every_n_train_steps=1, save_top_k=-1)
    trainer(tmp_path, max_epochs=2, callbacks=[keep], enable_checkpointing=True).fit(whole.module, whole.data)
    expected = weights(whole)
    for steps in (4, 6, 9):  # of 6 in an epoch: within the first, at its end, within the second
        resumed = load_experiment(config)
        own = trainer(tmp_path, max_epochs=2)
        own.fit(resumed.module, resumed.data, ckpt_path=str(tmp_path / "kept" / f"step={steps}.ckpt"))
        assert own.global_step == 12
        assert all(torch.equal(value, expected[name]) for name, value in weights(resumed).items()), steps


def test_it_can_overfit_some_batches(config: Any, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    class Seen(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            seen.append(batch["id"])

    experiment = load_experiment(config)
    trainer(tmp_path, max_epochs=3, overfit_batches=2, callbacks=[Seen()]).fit(experiment.module, experiment.data)
    assert seen == 3 * seen[:2]


def test_clipping_is_the_experiments_unless_the_trainer_clips(config: Any, tmp_path: Path) -> None:
    def trained(**options: Any) -> dict[str, torch.Tensor]:
        experiment = load_experiment(table_experiment(tmp_path, optimizer={"type": "sgd", "momentum": 0.0}))
        trainer(tmp_path, max_steps=3, max_epochs=1, **options).fit(experiment.module, experiment.data)
        return weights(experiment)

    own, same, less = trained(), trained(gradient_clip_val=1.0), trained(gradient_clip_val=1e-6)
    assert all(torch.equal(value, same[name]) for name, value in own.items())
    assert any(not torch.equal(value, less[name]) for name, value in own.items())


def test_a_trainer_without_an_end_or_of_several_processes_is_refused(config: Any, tmp_path: Path) -> None:
    experiment = load_experiment(config)
    with pytest.raises(UserError, match="has no end; give it max_epochs or max_steps"):
        trainer(tmp_path, max_epochs=-1).fit(experiment.module, experiment.data)

    class Two(lightning.Trainer):
        world_size = 2

    experiment.data.trainer = Two(logger=False, accelerator="cpu", devices=1)
    with pytest.raises(UserError, match=r"its 2 processes would share the rows; give it devices=1"):
        experiment.data.setup()
