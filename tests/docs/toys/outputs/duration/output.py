"""A constant hazard per row: likelihood, concordance and predictions."""

from __future__ import annotations

from typing import Literal

import torch
from eir_seq.outputs.duration.config import DurationOutputConfig
from torch import nn

from eir_seq.config.strict import Strict
from eir_seq.outputs.base import FittedOutput, Output


class DurationState(Strict):
    type: Literal["duration"] = "duration"
    name: str
    config: DurationOutputConfig


class FittedDuration(FittedOutput):
    output_size = 1

    def targets(self, rows, ids=None):
        return torch.tensor([rows[self.config.time], rows[self.config.event]], dtype=torch.float32).T

    def build_head(self, in_features):
        return nn.Linear(in_features, 1)

    def loss_terms(self, raw, target):
        hazard = raw.float().squeeze(1)
        return (hazard.exp() * target[:, 0] - target[:, 1] * hazard)[:, None]

    def evaluate(self, raw, target):
        return {"loss": float(self.loss_terms(raw, target).mean())}

    def errors(self, raw, target):
        return self.loss_terms(raw, target).squeeze(1)

    def decode(self, raw):
        return {self.name: raw.squeeze(1).tolist()}

    def describe(self):
        return {"type": "duration", "time": self.config.time}


class Duration(Output):
    STATE = DurationState
    FITTED = FittedDuration


def c_index(output, raw, target):
    """The share of comparable pairs whose earlier event has the higher hazard."""
    hazard, time, event = raw.squeeze(1), target[:, 0], target[:, 1] > 0
    comparable = event[:, None] & (time[:, None] < time[None])
    return float((hazard[:, None] > hazard[None])[comparable].double().mean()) if comparable.any() else None
