"""Numbers to standard scores, and the layer that reads them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from eir_seq.modalities.vector.config import VectorInputConfig
from torch import nn

from eir_seq.modalities.base import STATE_FILE, FittedModality, Modality, stacked


class Layer(nn.Sequential):
    def __init__(self, numbers, width):
        super().__init__(nn.Linear(numbers, width), nn.GELU())
        self.output_size = width

    def forward(self, values):
        return super().forward(values)


@dataclass(frozen=True)
class Collate:
    def __call__(self, encoded, rows, draw):
        return {"values": torch.from_numpy(encoded.arrays("values", rows))}


@dataclass
class FittedVector(FittedModality):
    name: str
    config: VectorInputConfig
    mean: list[float]
    deviation: list[float]

    @property
    def columns(self):
        return tuple(self.config.numbers)

    @property
    def collator(self):
        return Collate()

    def fingerprint(self):
        return repr(asdict(self))

    def encode(self, rows):
        values = np.array([rows[column] for column in self.columns], np.float64).T
        return {"values": stacked(((values - self.mean) / self.deviation).astype(np.float32))}

    def show(self, rows):
        return [str(row) for row in zip(*(rows[column] for column in self.columns), strict=True)]

    def describe(self):
        return {"type": "vector", "mean": self.mean}

    def build_encoder(self, data, *, pretrained=True, task=None):
        return Layer(len(self.mean), self.config.width)

    def save(self, folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        state = {**vars(self), "config": self.config.model_dump(mode="json")}
        (Path(folder) / STATE_FILE).write_text(json.dumps(state))


@dataclass(frozen=True)
class Vector(Modality):
    name: str
    config: VectorInputConfig

    @classmethod
    def build(cls, name, config, purpose):
        return cls(name, config)

    @classmethod
    def load(cls, folder):
        state = json.loads((folder / STATE_FILE).read_text())
        return FittedVector(**{**state, "config": VectorInputConfig(**state["config"])})

    def fit(self, train_rows, seed):
        values = np.array([train_rows[column] for column in self.config.numbers])
        return FittedVector(self.name, self.config, values.mean(1).tolist(), (values.std(1) + 1e-9).tolist())
