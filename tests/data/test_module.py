from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.dataset import BatchKey
from eir_seq.data.module import DataModule
from eir_seq.data.source import load_splits, load_test
from eir_seq.errors import UserError
from eir_seq.modalities import build_modality
from eir_seq.outputs import build_output
from eir_seq.training.trainer_data import TrainerData
from tests.data.conftest import REVIEW, Config, as_csv, reviews, write

TOKENIZER = {"type": "word"}


@pytest.fixture
def experiment(config: Config, tmp_path: Path) -> Any:
    """An experiment on 60 training and 20 validation rows, with its own cache."""
    path = write(tmp_path / "reviews.csv", as_csv(reviews(80)))

    def build(**data: Any) -> ExperimentConfig:
        data = {"train": path, "validation": 0.25, "batch_size": 8, "cache_dir": str(tmp_path / "cache"), **data}
        return config(**data)

    return build


def module(config: ExperimentConfig, **options: Any) -> DataModule:
    splits = load_splits(config)
    assert splits.train is not None
    inputs = {name: build_modality(name, item).fit(splits.train, 0) for name, item in config.inputs.items()}
    outputs = {name: build_output(name, item).fit(splits.train) for name, item in config.outputs.items()}
    return DataModule(config, splits, inputs, outputs, **options)


def ids(batches: Any) -> list[list[str]]:
    return [batch["id"] for batch in batches]


def test_a_batch_holds_rows_ids_tensors_and_targets(experiment: Any) -> None:
    data = module(experiment())
    splits = data.splits
    assert splits.train is not None
    batches = list(data.train_dataloader())
    assert len(batches) == data.batches_per_epoch == 8
    assert sorted(row for batch in ids(batches) for row in batch) == sorted(splits.train["id"])
    for batch in batches:
        rows = batch["row"].tolist()
        assert [splits.train["id"][row] for row in rows] == batch["id"]
        classes = [["bad", "good"][target] for target in batch["targets"]["sentiment"].tolist()]
        assert classes == [splits.train["sentiment"][row] for row in rows]
        review = batch["inputs"]["review"]
        lengths = [len(splits.train["text"][row].split()) + 2 for row in rows]
        assert review["attention_mask"].sum(dim=1).tolist() == lengths
        assert review["input_ids"].shape == (len(rows), max(lengths))
        assert review["input_ids"].dtype == torch.int64


def test_evaluation_serves_every_row_once_the_longest_first(experiment: Any) -> None:
    data = module(experiment(eval_batch_size=7))
    batches = list(data.val_dataloader())
    assert [len(batch["id"]) for batch in batches] == [7, 7, 6]
    rows = [row for batch in batches for row in batch["row"].tolist()]
    assert sorted(rows) == list(range(20))
    widths = [batch["inputs"]["review"]["input_ids"].shape[1] for batch in batches]
    assert widths == sorted(widths, reverse=True)
    assert ids(data.val_dataloader()) == ids(batches)
    assert data.test_dataloader() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_the_position_decides_what_comes_next(experiment: Any, workers: int) -> None:
    whole = module(experiment())
    epochs = []
    for epoch in range(3):
        whole.set_position(epoch, 0)
        epochs.append(ids(whole.train_dataloader()))
    assert epochs[0] != epochs[1]
    data = module(experiment(num_workers=workers))
    data.set_position(1, 3)
    assert len(data.train_dataloader()) == 8
    assert ids(data.train_dataloader()) == epochs[1][3:]
    data.set_position(2, 0)
    assert ids(data.train_dataloader()) == epochs[2]
    data.set_position(1, 8)
    assert ids(data.train_dataloader()) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_random_windows_depend_on_epoch_and_row_only(experiment: Any, workers: int) -> None:
    inputs = {"review": {**REVIEW, "max_length": 5, "truncation": "random", "tokenizer": TOKENIZER}}

    def windows(data: DataModule, epoch: int, skip: int = 0) -> dict[str, list[int]]:
        data.set_position(epoch, skip)
        return {
            row_id: tokens
            for batch in data.train_dataloader()
            for row_id, tokens in zip(batch["id"], batch["inputs"]["review"]["input_ids"].tolist(), strict=True)
        }

    plain, loaded = module(experiment(inputs=inputs)), module(experiment(inputs=inputs, num_workers=workers))
    first, second = windows(plain, 0), windows(plain, 1)
    assert first != second
    assert windows(loaded, 0) == first
    assert windows(loaded, 1, skip=4).items() <= second.items()
    other_batches = module(experiment(inputs=inputs, batch_size=5))
    assert windows(other_batches, 0) == first


def test_closing_ends_the_loader_processes(experiment: Any) -> None:
    data = module(experiment(num_workers=2))
    first = next(iter(data.train_dataloader()))["id"]
    processes = multiprocessing.active_children()
    assert len(processes) >= 2
    data.close()
    assert multiprocessing.active_children() == []
    assert next(iter(data.train_dataloader()))["id"] == first
    data.close()


class Recorder(pl.LightningModule):
    """Notes the ids of every batch that the trainer gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[str]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.seen.append(batch["id"])
        return self.weight.sum()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        assert not torch.is_grad_enabled()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_under_lightning_epochs_come_in_their_counted_order(experiment: Any, workers: int) -> None:
    expected = module(experiment())

    def epochs() -> Iterator[list[list[str]]]:
        for epoch in range(3):
            expected.set_position(epoch, 0)
            yield ids(expected.train_dataloader())

    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    data = TrainerData(module(experiment(num_workers=workers)), lambda batches, size: batches)
    trainer.fit(recorder, datamodule=data)
    assert recorder.seen == [batch for epoch in epochs() for batch in epoch]


def test_what_goes_to_loader_processes_is_small(config: Config, tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", as_csv([(i, text * 50, label) for i, text, label in reviews(400)]))
    data = module(config(train=path, validation=None, cache_dir=str(tmp_path / "cache")))
    data.setup()
    frozen = pickle.dumps(data.encoded["train"])
    assert len(frozen) < 12_000  # 400 ids and targets, no text and no tokens
    key = BatchKey((3, 1), 0)
    again = pickle.loads(frozen)[key]
    assert torch.equal(
        again["inputs"]["review"]["input_ids"], data.encoded["train"][key]["inputs"]["review"]["input_ids"]
    )


@pytest.mark.slow
def test_a_spawned_loader_process_opens_the_files_itself(experiment: Any) -> None:
    data = module(experiment(num_workers=1))
    loader = data.train_dataloader()
    loader.multiprocessing_context = "spawn"
    expected = module(experiment())
    assert ids(loader) == ids(expected.train_dataloader())


def test_processes_share_an_epoch(experiment: Any) -> None:
    shares = [module(experiment(), rank=rank, world_size=3) for rank in range(3)]
    alone = module(experiment())
    assert {data.batches_per_epoch for data in shares} == {alone.batches_per_epoch}
    together = zip(*(ids(data.train_dataloader()) for data in shares), strict=True)
    assert [sorted(row for part in parts for row in part) for parts in together] == [
        sorted(batch) for batch in ids(alone.train_dataloader())
    ]
    evaluation = [row for data in shares for batch in ids(data.val_dataloader()) for row in batch]
    assert len(evaluation) == len(set(evaluation)) == 20


def test_a_batch_of_fewer_rows_than_processes_counts_each_row_once(experiment: Any) -> None:
    shares = [module(experiment(batch_size=59), rank=rank, world_size=2) for rank in range(2)]  # 60 rows
    parts = [min(data.train_dataloader(), key=lambda batch: len(batch["id"])) for data in shares]
    assert parts[0]["id"] == parts[1]["id"]
    assert "uncounted" not in parts[0]
    assert parts[1]["uncounted"]


def test_token_budget(experiment: Any) -> None:
    data = module(experiment(max_tokens=60, batch_size=1000))
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert max(batch["inputs"]["review"]["input_ids"].numel() for batch in loader) <= 60
    with pytest.raises(UserError, match=r"^data\.max_tokens: 5 is less than the longest row \(12 tokens"):
        module(experiment(max_tokens=5)).setup()


def test_several_inputs_and_outputs(config: Config, tmp_path: Path) -> None:
    rows = [(*row, "x" * (i % 11 + 1), str(i / 2)) for i, row in enumerate(reviews(40))]
    path = write(tmp_path / "reviews.csv", as_csv(rows, header="id,text,sentiment,code,stars"))
    inputs = {
        "words": {**REVIEW, "tokenizer": TOKENIZER},
        "code": {**REVIEW, "column": "code", "max_length": 8, "tokenizer": {"type": "character"}},
    }
    outputs = {
        "sentiment": {"type": "classification", "column": "sentiment"},
        "stars": {"type": "regression", "column": "stars", "standardize": False},
    }
    settings = {"train": path, "cache_dir": str(tmp_path / "cache"), "max_tokens": 100}
    data = module(config(**settings, inputs=inputs, outputs=outputs))
    seen = 0
    for batch in data.train_dataloader():
        tensors = batch["inputs"]
        assert set(tensors) == {"words", "code"}
        assert sum(tensors[name]["input_ids"].numel() for name in tensors) <= 100
        assert tensors["code"]["input_ids"].shape[1] <= 8
        assert batch["targets"]["stars"].tolist() == [int(row_id) / 2 for row_id in batch["id"]]
        seen += len(batch["id"])
    assert seen == 36


def test_weighted_sampling(config: Config, tmp_path: Path) -> None:
    rows = reviews(90, classes=("a", "a", "b"))
    path = write(tmp_path / "reviews.csv", as_csv(rows))
    settings = {"train": path, "validation": None, "cache_dir": str(tmp_path / "cache")}
    data = module(config(**settings, weighted_sampling="sentiment"))
    targets = torch.cat([batch["targets"]["sentiment"] for batch in data.train_dataloader()])
    assert torch.bincount(targets).tolist() == [45, 45]
    with pytest.raises(UserError, match=r"^data\.weighted_sampling: there is no output 'sentimnt'; did you mean"):
        module(config(**settings, weighted_sampling="sentimnt")).setup()


def test_rows_to_predict_have_no_targets(experiment: Any, tmp_path: Path) -> None:
    trained = module(experiment())
    settings = experiment(test=write(tmp_path / "new.csv", "id,text\na,very long text\nb,text\n"))
    data = DataModule(settings, load_test(settings), trained.inputs, trained.outputs)
    batches = list(data.test_dataloader())
    assert [(batch["id"], batch["targets"]) for batch in batches] == [(["a", "b"], {})]
    assert ids(data.encoded["test"].batches(settings.data)) == [["a", "b"]]


def test_warnings_of_the_inputs_are_logged_once(experiment: Any, caplog: pytest.LogCaptureFixture) -> None:
    inputs = {"review": {**REVIEW, "max_characters": 10, "tokenizer": TOKENIZER}}
    data = module(experiment(inputs=inputs))
    data.setup()
    data.setup()
    assert data.warnings == [
        "inputs.review: 60 texts of the train rows were cut to 10 characters (max_characters)",
        "inputs.review: 20 texts of the validation rows were cut to 10 characters (max_characters)",
    ]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("eir_seq")] == data.warnings
