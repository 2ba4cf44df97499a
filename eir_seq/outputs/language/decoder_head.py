"""The head of outputs whose texts a decoder writes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models.heads.token_nll import row_sums, token_nll
from eir_seq.models.output import TokenStates


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
        nll = token_nll(
            tokens.states[there], labels[there], head.scores, factors=head.factors, label_smoothing=smoothing
        )
        sums = row_sums(nll, there)
        counts = there.sum(dim=1).to(sums.dtype)
        if self.training and tokens.further_loss is not None:
            share = self._tokens_per_text(counts) if head.further_by_texts else counts
            sums = sums + tokens.further_loss * share
        return torch.stack([sums, counts], dim=1)

    def _tokens_per_text(self, counts: Tensor) -> Tensor:
        mean = counts.mean() if self.tokens_per_text is None else self.tokens_per_text
        return torch.ones_like(counts) * mean
