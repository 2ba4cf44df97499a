"""Predictions about the entities of a text (https://arxiv.org/abs/2010.01057)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.heads.base import Head, Inputs, Targets, token_loss
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.layers.build import Sized
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.feed_forward.activations import activation
from eir_seq.models.layers.linear import Linear
from eir_seq.models.output import ModelOutput

SPANS = ("entity_start_positions", "entity_end_positions")


class EntityClassification(Head):
    """A linear layer on the state of the first entity, of the first two, or of each with its first and last word."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config):
        """`reads`: which states."""

        reads: Literal["first", "pair", "spans"]
        hidden_size: int
        num_labels: int
        dropout: float = 0.0
        bias: bool = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        parts = {"first": 1, "pair": 2, "spans": 3}[config.reads]
        self.dropout = Dropout(config.dropout)
        self.out = Linear(parts * config.hidden_size, config.num_labels, bias=config.bias)

    def prepare(self, inputs: Inputs, targets: Targets) -> Inputs:
        """Places of words are for this head only."""
        return {name: x for name, x in inputs.items() if name not in SPANS}

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits`: (batch, num_labels), or (batch, entities, num_labels).

        Raises:
            ValueError: too few entities, or no `entity_start_positions` and `entity_end_positions` (batch, entities).
        """
        entities = output.entity_last_hidden_state
        needed = 2 if self.config.reads == "pair" else 1
        if entities is None or entities.shape[1] < needed:
            raise ValueError(f"this head needs entity_ids and entity_position_ids of {needed} or more entities")
        if self.config.reads == "spans":
            places = [inputs.get(name) for name in SPANS]
            if places[0] is None or places[1] is None:
                raise ValueError(f"this head needs {SPANS[0]} and {SPANS[1]}")
            words: Tensor = output.last_hidden_state
            rows = torch.arange(words.shape[0], device=words.device)[:, None]
            x = torch.cat((words[rows, places[0]], words[rows, places[1]], entities), -1)
        else:
            x = entities[:, :needed].flatten(1)
        return {"logits": self.out(self.dropout(x))}

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of class numbers, or one binary cross-entropy per class of zeros and ones."""
        if labels.dim() < logits.dim():
            return F.cross_entropy(logits.flatten(0, -2), labels.flatten())
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


class WordsAndEntities(Head):
    """Hidden words and hidden entities."""

    targets = ("labels", "entity_labels")

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config):
        """`words`, `entities`: scores over both vocabularies; a layer narrows the states of entities before."""

        words: LanguageModel.Config
        entities: LanguageModel.Config
        hidden_size: int
        activation: str
        norm: Sized

    def __init__(self, config: Config) -> None:
        super().__init__()
        narrow = config.entities.hidden_size
        self.words, self.entities = config.words.build(), config.entities.build()
        self.dense, self.norm = Linear(config.hidden_size, narrow), config.norm.build(narrow)
        self.activation = activation(config.activation)

    def tie(self, body: Any) -> None:
        """Score by the body's tables."""
        self.words.tie(body)
        self.entities.out.weight = body.embeddings.others.tokens.weight

    def scores(self, x: Tensor) -> Tensor:
        """States of words (..., hidden) -> (..., vocabulary)."""
        return self.words.scores(x)

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits`: (batch, length, vocabulary); `entity_logits`: (batch, entities, entity vocabulary), if any."""
        predictions = {"logits": self.words.scores(output.last_hidden_state)}
        if (states := output.entity_last_hidden_state) is not None:
            predictions["entity_logits"] = self.entities.scores(self.norm(self.activation(self.dense(states))))
        return predictions

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """The sum of what is given; its parts join the predictions as `mlm_loss` and `mep_loss`."""
        parts = {
            name: token_loss(predictions[logits], targets[labels])
            for name, logits, labels in (
                ("mlm_loss", "logits", "labels"),
                ("mep_loss", "entity_logits", "entity_labels"),
            )
            if labels in targets and logits in predictions
        }
        predictions.update(parts)
        return torch.stack(list(parts.values())).sum() if parts else None
