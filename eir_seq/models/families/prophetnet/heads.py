"""The language model of a decoder whose streams predict the same text, each from less of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.heads.base import IGNORED, Targets
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.output import ModelOutput


class NgramLanguageModel(LanguageModel):
    """Scores of every predicting stream."""

    @dataclass(frozen=True, kw_only=True)
    class Config(LanguageModel.Config):
        """`streams`: those that predict; `first_only`: only the first one is trained. `smoothing`: of labels."""

        streams: int
        first_only: bool
        smoothing: float

    config: Config

    def states(self, output: ModelOutput) -> Tensor:
        """Those of the first stream."""
        states: Tensor = output.last_hidden_state_ngram
        return states[:, : states.shape[1] // self.config.streams]

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits` of the first stream, (batch, length, vocabulary), `logits_ngram` of others, (batch, n - 1, ...)."""
        kept = output.last_hidden_state.shape[1]
        streams = output.last_hidden_state_ngram.unflatten(1, (self.config.streams, -1))
        scores = self.scores(streams[:, :, -kept:])
        others = {"logits_ngram": scores[:, 1:]} if self.config.streams > 1 else {}
        return {"logits": scores[:, 0], **others}

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """Mean cross-entropy of all streams against the same labels, each at its own place; -100 is ignored."""
        if (labels := targets.get("labels")) is None:
            return None
        scores = predictions["logits"][:, None]
        if not self.config.first_only and "logits_ngram" in predictions:
            scores = torch.cat((scores, predictions["logits_ngram"]), 1)
        labels = labels[:, None].expand(scores.shape[:-1])
        return F.cross_entropy(
            scores.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, label_smoothing=self.config.smoothing
        )
