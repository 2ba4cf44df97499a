"""A text written from another one, by the decoder of the backbone and its own head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eir_seq.config.outputs import Seq2SeqLmOutputConfig
from eir_seq.config.strict import Strict
from eir_seq.models.heads.token_nll import token_nll
from eir_seq.models.output import TokenStates
from eir_seq.outputs.base import FittedOutput, Rows
from eir_seq.outputs.causal_lm import LARGEST_EXPONENT


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

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, tokens: TokenStates) -> Tensor:
        """Per row the summed negative log-likelihood (nats) of its target, and the tokens of that: (batch, 2).

        In training the likelihood is that of smoothed labels, and what else the backbone's loss has (that of routers)
        is spread over the tokens.
        """
        head: Any = tokens.head
        there, labels = tokens.mask, tokens.inputs["labels"]
        smoothing = self.label_smoothing if self.training else 0.0
        nll = token_nll(tokens.states[there], labels[there], head.scores, label_smoothing=smoothing)
        sums = nll.new_zeros(len(labels)).index_add(0, there.nonzero()[:, 0], nll)
        counts = there.sum(dim=1).to(sums.dtype)
        if self.training and tokens.further_loss is not None:
            sums = sums + tokens.further_loss * counts  # the mean over tokens then has it once
        return torch.stack([sums, counts], dim=1)


class FittedSeq2SeqLm(FittedOutput):
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

    @property
    def input(self) -> str:
        """The input that texts are written from."""
        assert self.config.input is not None, "settled before the output was built"
        return self.config.input

    @property
    def output_size(self) -> int:
        """Log-likelihood and number of tokens."""
        return 2

    def canonical(self, values: Sequence[Any]) -> list[str]:
        """The texts."""
        return list(values)

    def targets(self, values: Sequence[Any], ids: Sequence[str] | None = None) -> Tensor:
        """Zeros, (rows,)."""
        del ids
        return torch.zeros(len(values))

    def build_head(self, in_features: int) -> Seq2SeqLmHead:
        """Token states (batch, length, in_features) to raw outputs (batch, 2); without parameters of its own."""
        del in_features
        return Seq2SeqLmHead(self.config.label_smoothing)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, (batch,); its mean is the mean over the tokens of the batch."""
        del target
        return raw[:, 0] / raw[:, 1].mean().clamp(min=1.0)

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss in nats per token of the targets, without smoothing, and perplexity."""
        del target
        nll, tokens = raw.double().sum(dim=0).tolist()
        loss = nll / max(tokens, 1.0)
        return {"loss": loss, "perplexity": math.exp(min(loss, LARGEST_EXPONENT))}

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """Loss per token of each row."""
        del target
        return raw[:, 0] / raw[:, 1].clamp(min=1.0)

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """No column: texts are written one by one (`eir_seq.outputs.writing`)."""
        del raw
        return {}

    def describe(self) -> dict[str, Any]:
        """Type, column and input."""
        return {"type": "seq2seq_lm", "column": self.config.column, "input": self.config.input}
