"""Outputs that restore what was taken out of texts: hidden tokens, spans, a whole text."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from eir_seq.config.outputs import (
    CorruptedOutputBase,
    DenoisingOutputConfig,
    MaskedLmOutputConfig,
    OutputConfig,
    ReplacedTokenDetectionOutputConfig,
    SpanCorruptionOutputConfig,
)
from eir_seq.config.strict import Strict
from eir_seq.models.heads.token_nll import row_sums, token_nll_and_hits
from eir_seq.models.output import TokenStates
from eir_seq.outputs.base import Rows
from eir_seq.outputs.nll import FittedTokenScores
from eir_seq.outputs.seq2seq_lm import Seq2SeqLmHead


class MaskedLmState(Strict):
    """What a masked language model remembers: its config, with the input that it reads."""

    type: Literal["masked_lm"] = "masked_lm"
    name: str
    config: MaskedLmOutputConfig


class ReplacedTokenDetectionState(Strict):
    """The same of a detection of replaced tokens."""

    type: Literal["replaced_token_detection"] = "replaced_token_detection"
    name: str
    config: ReplacedTokenDetectionOutputConfig


class SpanCorruptionState(Strict):
    """The same of spans."""

    type: Literal["span_corruption"] = "span_corruption"
    name: str
    config: SpanCorruptionOutputConfig


class DenoisingState(Strict):
    """The same of noisy texts."""

    type: Literal["denoising"] = "denoising"
    name: str
    config: DenoisingOutputConfig


State = MaskedLmState | ReplacedTokenDetectionState | SpanCorruptionState | DenoisingState
STATES: tuple[type[State], ...] = (MaskedLmState, ReplacedTokenDetectionState, SpanCorruptionState, DenoisingState)


class Pretraining:
    """Such an output as declared; what there is to fit, the tokenizer, its input fits."""

    def __init__(self, name: str, config: OutputConfig) -> None:
        self.name = name
        self.config = config

    def fit(self, train_rows: Rows) -> FittedPretraining:
        """The output; the rows are not looked at."""
        del train_rows
        kind: Any = next(state for state in STATES if state.model_fields["config"].annotation is type(self.config))
        return fitted_pretraining(kind(name=self.name, config=self.config))


class FittedPretraining(FittedTokenScores):
    """An output that learns from texts alone; what it is to find stands among the tensors of its input."""

    def __init__(self, state: State) -> None:
        assert isinstance(state.config, CorruptedOutputBase)
        self._state = state
        self.name = state.name
        self.config = state.config
        self.backbone_task = state.config.TASK

    @property
    def state(self) -> State:
        """All that `save` writes."""
        return self._state

    def build_head(self, in_features: int) -> nn.Module:
        """Token states (batch, length, in_features) to raw outputs; without parameters of its own."""
        del in_features
        if isinstance(self.config, SpanCorruptionOutputConfig | DenoisingOutputConfig):
            return Seq2SeqLmHead(self.config.label_smoothing)
        return MaskedLmHead()


class MaskedLmHead(nn.Module):
    """Scores hidden tokens by the head of the backbone, which the encoder holds."""

    def forward(self, tokens: TokenStates) -> Tensor:
        """Per row the summed negative log-likelihood (nats) of its hidden tokens, their number, and how many of them
        have the highest score: (batch, 3).
        """
        head: Any = tokens.head
        labels = tokens.inputs["labels"]
        hidden = labels >= 0
        nll, right = token_nll_and_hits(tokens.states[hidden], labels[hidden], head.scores)
        sums = row_sums(nll, hidden)
        return torch.stack([sums, hidden.sum(dim=1).to(sums.dtype), row_sums(right.to(sums.dtype), hidden)], dim=1)


class FittedMaskedLm(FittedPretraining):
    """A masked language model; raw outputs are those of `MaskedLmHead`."""

    @property
    def output_size(self) -> int:
        """Log-likelihood, number of hidden tokens, and of those that were found."""
        return 3

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss in nats per hidden token, perplexity, and the share of them that got the highest score."""
        _, tokens, found = raw.double().sum(dim=0).tolist()
        return {**super().evaluate(raw, target), "accuracy": found / tokens} if tokens else {}


def fitted_pretraining(state: State) -> FittedPretraining:
    """The fitted output of a state."""
    from eir_seq.outputs.replaced_tokens import FittedReplacedTokenDetection

    if isinstance(state, MaskedLmState):
        return FittedMaskedLm(state)
    if isinstance(state, ReplacedTokenDetectionState):
        return FittedReplacedTokenDetection(state)
    return FittedPretraining(state)
