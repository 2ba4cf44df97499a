"""A text written from another one, by the decoder of the backbone and its own head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eir_seq.config.outputs import Seq2SeqLmOutputConfig
from eir_seq.config.strict import Strict
from eir_seq.models.heads.token_nll import row_sums, token_nll
from eir_seq.models.output import TokenStates
from eir_seq.outputs.base import Rows
from eir_seq.outputs.nll import FittedTokenScores


class Seq2SeqLmState(Strict):
    """What a sequence-to-sequence output remembers: its config, with the input that it reads."""

    type: Literal["seq2seq_lm"] = "seq2seq_lm"
    name: str
    config: Seq2SeqLmOutputConfig


class Seq2SeqLm:
    """A sequence-to-sequence output as declared; what there is to fit, the tokenizer, its input fits."""

    def __init__(self, name: str, config: Seq2SeqLmOutputConfig) -> None:
        self.name = name
        self.config = config

    def fit(self, train_rows: Rows) -> FittedSeq2SeqLm:
        """The output; the rows are not looked at."""
        del train_rows
        return FittedSeq2SeqLm(Seq2SeqLmState(name=self.name, config=self.config))


class Seq2SeqLmHead(nn.Module):
    """Scores the tokens of the target by the head of the backbone, which the encoder holds."""

    tokens_per_text: float | None = None
    """Of the optimizer step that a training batch is part of; those of the batch if None."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, tokens: TokenStates) -> Tensor:
        """Per row the summed negative log-likelihood (nats) of its target, and the tokens of that: (batch, 2).

        In training the likelihood is that of smoothed labels, and what else the backbone's loss has (that of routers)
        is spread over the tokens, or over the texts, so that a mean over the tokens of a step averages it so.
        """
        head: Any = tokens.head
        there, labels = tokens.mask, tokens.inputs["labels"]
        smoothing = self.label_smoothing if self.training else 0.0
        nll = token_nll(tokens.states[there], labels[there], head.scores, label_smoothing=smoothing)
        sums = row_sums(nll, there)
        counts = there.sum(dim=1).to(sums.dtype)
        if self.training and tokens.further_loss is not None:
            share = self._tokens_per_text(counts) if head.further_by_texts else counts
            sums = sums + tokens.further_loss * share
        return torch.stack([sums, counts], dim=1)

    def _tokens_per_text(self, counts: Tensor) -> Tensor:
        mean = counts.mean() if self.tokens_per_text is None else self.tokens_per_text
        return torch.ones_like(counts) * mean


class FittedSeq2SeqLm(FittedTokenScores):
    """A sequence-to-sequence output.

    Raw outputs are those of `Seq2SeqLmHead`. Targets are zeros, (rows,): the texts stand among the tensors of the input
    as labels. Metrics of written texts are those of `eir_seq.outputs.writing`.
    """

    backbone_task = "seq2seq-lm"

    def __init__(self, state: Seq2SeqLmState) -> None:
        self._state = state
        self.name = state.name
        self.config: Seq2SeqLmOutputConfig = state.config

    @property
    def state(self) -> Seq2SeqLmState:
        """All that `save` writes."""
        return self._state

    def canonical(self, values: Sequence[Any]) -> list[str]:
        """The texts."""
        return list(values)

    def build_head(self, in_features: int) -> Seq2SeqLmHead:
        """Token states (batch, length, in_features) to raw outputs (batch, 2); without parameters of its own."""
        del in_features
        return Seq2SeqLmHead(self.config.label_smoothing)

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """No column: texts are written one by one (`eir_seq.outputs.writing`)."""
        del raw
        return {}

    def describe(self) -> dict[str, Any]:
        """Type, input and column."""
        return {**super().describe(), "column": self.config.column}
