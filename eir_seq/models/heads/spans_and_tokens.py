"""Predictions per token (labels, span ends) and per choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.heads.base import Head, Inputs, Targets, token_loss
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.linear import Linear
from eir_seq.models.output import ModelOutput


class TokenClassification(Head):
    """A linear layer on every token's state."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config):
        """`num_labels`: classes of a token."""

        hidden_size: int
        num_labels: int
        dropout: float = 0.0

        @classmethod
        def of(cls, c: Any, **own: Any) -> Self:
            """From the options of an architecture that all name alike, and what it has of its `own`."""
            return cls(**{"hidden_size": c.width, "num_labels": c.num_labels, **own})

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dropout = Dropout(config.dropout)
        self.out = Linear(config.hidden_size, config.num_labels)

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits`: (batch, length, num_labels)."""
        return {"logits": self.out(self.dropout(output.last_hidden_state))}

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over the tokens whose label is not -100."""
        return token_loss(logits, labels)


class QuestionAnswering(Head):
    """Two scores per token: that the answer begins there, and that it ends there."""

    targets = ("start_positions", "end_positions")
    reads_padding = True

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config):
        """`dropout`: on the states."""

        hidden_size: int
        dropout: float = 0.0

        @classmethod
        def of(cls, c: Any, **own: Any) -> Self:
            """From the options of an architecture that all name alike, and what it has of its `own`."""
            return cls(**{"hidden_size": c.width, **own})

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dropout = Dropout(config.dropout)
        self.out = Linear(config.hidden_size, 2)

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`start_logits`, `end_logits`: (batch, length) each."""
        start, end = self.out(self.dropout(output.last_hidden_state)).unbind(-1)
        return {"start_logits": start, "end_logits": end}

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """Mean of the two cross-entropies; a place after the text is left out."""
        return span_loss(predictions["start_logits"], predictions["end_logits"], targets)


def span_loss(start: Tensor, end: Tensor, targets: Targets) -> Tensor | None:
    """Mean cross-entropy of start and end (batch, length) at `start_positions` and `end_positions` (batch,)."""
    if "start_positions" not in targets or "end_positions" not in targets:
        return None
    length = start.shape[1]
    losses = [
        F.cross_entropy(logits, targets[name].reshape(-1).clamp(0, length), ignore_index=length)
        for logits, name in ((start, "start_positions"), (end, "end_positions"))
    ]
    return (losses[0] + losses[1]) / 2


class MultipleChoice(Head):
    """One score per choice: every choice is read as its own text, and another head scores it."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config):
        """`scores`: the config of a head with one label that scores a text."""

        scores: Any

        @classmethod
        def by(cls, c: Any, one: Callable[[Any], Any]) -> Self:
            """`one`: options of the architecture -> the config of a head, which shall score a text."""
            return cls(scores=replace(one(c), num_labels=1))

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.one: Head = config.scores.build()
        self.reads_padding = self.one.reads_padding

    def prepare(self, inputs: Inputs, targets: Targets) -> Inputs:
        """(batch, choices, ...) -> (batch * choices, ...)."""
        return self.one.prepare(flat_choices(inputs), targets)

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits`: (batch, choices)."""
        given = inputs["input_ids"] if inputs.get("input_ids") is not None else inputs["inputs_embeds"]
        return {"logits": self.one(output, flat_choices(inputs))["logits"].view(given.shape[:2])}

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the right choice (batch,)."""
        return F.cross_entropy(logits, labels)


def flat_choices(inputs: Mapping[str, Any]) -> Inputs:
    """Every choice as its own text: (batch, choices, ...) -> (batch * choices, ...)."""
    return {name: x.flatten(0, 1) if isinstance(x, Tensor) and name != "head_mask" else x for name, x in inputs.items()}
