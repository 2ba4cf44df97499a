"""Tokens that are hidden in a text, found by the backbone's own head."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from eir_seq.config.strict import Strict
from eir_seq.models.heads.token_nll import row_sums, token_nll_and_hits
from eir_seq.models.output import TokenStates
from eir_seq.outputs.base import Output
from eir_seq.outputs.language.corrupted import FittedPretraining
from eir_seq.outputs.masked_lm.config import MaskedLmOutputConfig


class MaskedLmState(Strict):
    """The state of a masked language model: its config, with the input that it reads."""

    type: Literal["masked_lm"] = "masked_lm"
    name: str
    config: MaskedLmOutputConfig


class MaskedLmHead(nn.Module):
    """Scores hidden tokens by the head of the backbone, which the encoder holds."""

    def forward(self, tokens: TokenStates) -> Tensor:
        """Per row the summed negative log-likelihood (nats) of its hidden tokens, their number, and how many of them
        have the highest score: (batch, 3).
        """
        head: Any = tokens.head
        labels = tokens.inputs["labels"]
        hidden = labels >= 0
        nll, right = token_nll_and_hits(tokens.states[hidden], labels[hidden], head.scores, factors=head.factors)
        sums = row_sums(nll, hidden)
        return torch.stack([sums, hidden.sum(dim=1).to(sums.dtype), row_sums(right.to(sums.dtype), hidden)], dim=1)


class FittedMaskedLm(FittedPretraining):
    """A masked language model; raw outputs are those of `MaskedLmHead`."""

    def build_head(self, in_features: int) -> MaskedLmHead:
        """Token states (batch, length, in_features) to raw outputs (batch, 3); without its own parameters."""
        del in_features
        return MaskedLmHead()

    @property
    def output_size(self) -> int:
        """Log-likelihood, number of hidden tokens, and of those that were found."""
        return 3

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss in nats per hidden token, perplexity, and the share of them that got the highest score."""
        _, tokens, found = raw.double().sum(dim=0).tolist()
        return {**super().evaluate(raw, target), "accuracy": found / tokens} if tokens else {}


class MaskedLm(Output):
    """A masked language model as declared; what there is to fit, the tokenizer, its input fits."""

    STATE = MaskedLmState
    FITTED = FittedMaskedLm
