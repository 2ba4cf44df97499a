"""One prediction per text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor

from eir_seq.models.heads.base import Head, Inputs, Targets, classification_loss
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.feed_forward.activations import activation
from eir_seq.models.layers.linear import Linear
from eir_seq.models.output import ModelOutput


class SequenceClassification(Head):
    """One token's state (or the pooler's), an optional hidden layer, a linear layer."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config):
        """`reads`: which state; `dense`: activation of the hidden layer, None for none.

        The state may be the pooler's, the first token's, the last real token's (by `marker_id`, the padding), or the
        decoder's at the last end-of-text (by `marker_id`, that token).
        """

        reads: Literal["pooler", "first", "last", "last-eos"]
        hidden_size: int
        num_labels: int
        problem_type: str | None
        dense: str | None = None
        dropout: float = 0.0
        dense_dropout: float = 0.0
        bias: bool = True
        marker_id: int | None = None

        @classmethod
        def of(cls, c: Any, **own: Any) -> Self:
            """From the options of an architecture that all name alike, and what it has of its `own`."""
            return cls(**{"hidden_size": c.width, "num_labels": c.num_labels, "problem_type": c.problem_type, **own})

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.dense = Linear(config.hidden_size, config.hidden_size) if config.dense else None
        self.activation = activation(config.dense or "linear")
        self.out = Linear(config.hidden_size, config.num_labels, bias=config.bias)
        self.dense_dropout = Dropout(config.dense_dropout)
        self.dropout = Dropout(config.dropout)

    def prepare(self, inputs: Inputs, targets: Targets) -> Inputs:
        """The end of a text is known by its token."""
        if self.config.reads == "last-eos" and inputs.get("input_ids") is None:
            raise ValueError("give input_ids: this head looks for the end of the text in them")
        return inputs

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits`: (batch, num_labels)."""
        x = self._state(output, inputs)
        if self.dense is not None:
            x = self.activation(self.dense(self.dense_dropout(x)))
        return {"logits": self.out(self.dropout(x))}

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `classification_loss`."""
        return classification_loss(logits, labels, self.config.num_labels, self.config.problem_type)

    def _state(self, output: ModelOutput, inputs: Mapping[str, Any]) -> Tensor:
        states: Tensor = output.last_hidden_state
        reads = self.config.reads
        ids: Tensor | None = inputs.get("input_ids")
        if reads == "pooler":
            pooled: Tensor = output.pooler_output
            return pooled
        if reads == "first":
            return states[:, 0]
        places = torch.arange(states.shape[1], device=states.device)
        if reads == "last":
            if ids is None or self.config.marker_id is None:
                if states.shape[0] > 1 and self.config.marker_id is None:
                    raise ValueError("pad_token_id is needed to find the last real token of more than one text")
                return states[:, -1]
            last = (places * (ids != self.config.marker_id)).argmax(-1)
        else:
            assert ids is not None
            assert self.config.marker_id is not None
            is_eos = torch.eq(ids, self.config.marker_id)
            counts = is_eos.sum(1)
            if not torch.compiler.is_compiling() and (bool((counts != counts[0]).any()) or not int(counts[0])):
                raise ValueError("every text must hold the same number (one or more) of end-of-text tokens")
            last = (places * is_eos).argmax(-1)
        return states[torch.arange(states.shape[0], device=states.device), last]


def shifted_right(ids: Tensor, start_id: int | None, padding_id: int = 0) -> Tensor:
    """Decoder tokens from target tokens (batch, length): `start_id` first, the last one dropped, -100 as padding.

    Without a `start_id` each text begins with its own last token that is no padding (a language's, in mbart).
    """
    ids = ids.masked_fill(ids == -100, padding_id)
    if start_id is None:
        first = ids.gather(1, ((ids != padding_id).sum(1, keepdim=True) - 1).clamp(min=0))
    else:
        first = torch.full_like(ids[:, :1], start_id)
    return torch.cat((first, ids[:, :-1]), 1)
