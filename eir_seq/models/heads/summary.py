"""One prediction per text from a summary of its states, in the manner of xlm and xlnet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from torch import Tensor

from eir_seq.models.heads.base import Head, classification_loss
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.feed_forward.activations import activation
from eir_seq.models.layers.linear import Linear
from eir_seq.models.output import ModelOutput


class SummaryClassification(Head):
    """The state of one place (or the mean), an optional projection, an activation, an optional linear layer.

    The last place and the mean count padding in, as the published classes do.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config):
        """`reads`: which state. `project`: width of the projection, None for none. `activation`: after it.

        `first_dropout`, `last_dropout`: on the state and after the activation. `classify`: whether a linear layer
        follows, with a `bias` or without; else the projection itself gives the predictions.
        """

        reads: Literal["first", "last", "mean"]
        hidden_size: int
        num_labels: int
        problem_type: str | None = None
        project: int | None = None
        activation: str | None = None
        first_dropout: float = 0.0
        last_dropout: float = 0.0
        classify: bool = True
        bias: bool = True

        @classmethod
        def of(cls, c: Any, **own: Any) -> Self:
            """From the options of an architecture that all name alike, and what it has of its `own`."""
            return cls(**{"hidden_size": c.width, "num_labels": c.num_labels, "problem_type": c.problem_type, **own})

        @classmethod
        def by_options(cls, c: Any, **own: Any) -> Self:
            """By transformers' options ``summary_...``; the place of the classification token is the last one."""
            return cls.of(
                c,
                **{
                    "reads": c.summary_type if c.summary_type in ("first", "mean") else "last",
                    "project": c.width if c.summary_use_proj else None,
                    "activation": c.summary_activation,
                    "last_dropout": getattr(c, "summary_last_dropout", 0.0),
                    "first_dropout": getattr(c, "summary_first_dropout", 0.0),
                    **own,
                },
            )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.reads_padding = config.reads != "first"
        self.project = Linear(config.hidden_size, config.project) if config.project else None
        self.activation = activation(config.activation or "linear")
        self.first_dropout, self.last_dropout = Dropout(config.first_dropout), Dropout(config.last_dropout)
        width = config.project or config.hidden_size
        self.out = Linear(width, config.num_labels, bias=config.bias) if config.classify else None

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits`: (batch, num_labels)."""
        states: Tensor = output.last_hidden_state
        x = states.mean(1) if self.config.reads == "mean" else states[:, 0 if self.config.reads == "first" else -1]
        x = self.first_dropout(x)
        x = self.last_dropout(self.activation(x if self.project is None else self.project(x)))
        return {"logits": x if self.out is None else self.out(x)}

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `classification_loss`."""
        return classification_loss(logits, labels, self.config.num_labels, self.config.problem_type)
