"""A tiny experiment in memory: a network with dropout and batches that follow the data module's contract."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.module import outlive_signals
from eir_seq.fusion import build_fusion
from eir_seq.outputs import build_output
from eir_seq.outputs.base import FittedOutput
from eir_seq.randomness import derive_seed, generator
from eir_seq.training.network import Network

ROWS, FEATURES = 26, 4


def experiment(**changes: Any) -> ExperimentConfig:
    """A config whose input is never built; keys of `changes` are sections that are merged in."""
    config: dict[str, Any] = {
        "data": {"batch_size": 4},
        "inputs": {"x": {"type": "sequence", "column": "text", "model": {"model_type": "bert"}}},
        "fusion": {"type": "mlp-residual", "hidden_size": 8, "dropout": 0.3},
        "outputs": {"y": {"type": "classification", "column": "label"}},
        "trainer": {"max_epochs": 3, "accelerator": "cpu"},
    }
    for key, value in changes.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    return ExperimentConfig.model_validate(config)


class Encoder(nn.Module):
    """A linear layer with dropout in the place of a backbone."""

    output_size = 6

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, self.output_size)
        self.dropout = nn.Dropout(0.2)

    def forward(self, values: Tensor) -> Tensor:
        return self.dropout(self.linear(values))


class Rows(Dataset[dict[str, Any]]):
    """Fixed rows; ``poisoned`` has a value that is not finite."""

    def __init__(self, split: str, rows: int = ROWS, poisoned: int | None = None) -> None:
        draw = generator(7, split)
        self.values = torch.from_numpy(draw.normal(size=(rows, FEATURES))).float()
        self.labels = (self.values.sum(dim=1) > 0).long()
        self.split = split
        if poisoned is not None:
            self.values[poisoned, 0] = torch.nan

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"row": row, "id": f"{self.split}-{row}", "values": self.values[row], "label": self.labels[row]}


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "row": torch.tensor([row["row"] for row in rows]),
        "id": [row["id"] for row in rows],
        "inputs": {"x": {"values": torch.stack([row["values"] for row in rows])}},
        "targets": {"y": torch.stack([row["label"] for row in rows])},
    }


class Batches:
    """A batch sampler whose batches are a function of (seed, epoch) and that starts where it is told."""

    def __init__(self, rows: int, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.epoch = self.skip = 0

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = generator(self.seed, "order", self.epoch).permutation(self.rows).tolist()
        batches = [order[i : i + self.batch_size] for i in range(0, self.rows, self.batch_size)]
        return iter(batches[self.skip :])


class FakeData:
    """What the run loop and the trainer ask of a data module."""

    def __init__(self, config: ExperimentConfig, rows: int = ROWS, poisoned: int | None = None) -> None:
        self.train = Rows("train", rows, poisoned)
        self.validation = Rows("validation", 10)
        self.test: Rows | None = Rows("test", 6)
        self.workers = config.data.num_workers
        self.batches = Batches(rows, config.data.batch_size, config.seed)
        self.batches_per_epoch = len(self.batches)

    def set_position(self, epoch: int, batches_done: int, window: Sequence[int] = (0, 0)) -> None:
        self.batches.epoch, self.batches.skip = epoch, batches_done

    def costliest_batches(self, epoch: int, batches_done: int, batches: int, beyond: Any) -> tuple[Any, Any]:
        return collate([self.train[row] for row in range(4)]), collate([self.validation[row] for row in range(4)])

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(
            self.train,
            batch_sampler=self.batches,
            collate_fn=collate,
            num_workers=self.workers,
            worker_init_fn=outlive_signals,
        )

    def statistics_batches(self) -> DataLoader[Any]:
        return DataLoader(self.train, batch_size=4, collate_fn=collate)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.validation, batch_size=4, collate_fn=collate)


def fitted_outputs(config: ExperimentConfig, data: FakeData) -> dict[str, FittedOutput]:
    return {
        name: build_output(name, output).fit({"label": [str(int(label)) for label in data.train.labels]})
        for name, output in config.outputs.items()
    }


def network(config: ExperimentConfig, outputs: dict[str, FittedOutput]) -> Network:
    torch.manual_seed(derive_seed(config.seed, "network"))
    fusion = build_fusion(config.fusion, {"x": Encoder.output_size}, list(outputs))
    heads = {name: output.build_head(fusion.output_size) for name, output in outputs.items()}
    return Network({"x": Encoder()}, fusion, heads)


def run_folder(root: Path) -> Path:
    os.makedirs(root / "checkpoints", exist_ok=True)
    return root
