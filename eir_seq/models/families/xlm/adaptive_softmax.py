"""One prediction per hidden token by clusters of ever rarer tokens (https://arxiv.org/abs/1609.04309)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.heads.base import IGNORED, Head
from eir_seq.models.output import ModelOutput


class AdaptiveSoftmax(Head):
    """Chances of frequent tokens and of clusters of rarer ones; in each cluster, by narrower states, of its tokens."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config):
        """`cutoffs`: ids at which clusters begin. `narrowing`: factor by which each is narrower than the one before."""

        hidden_size: int
        vocab_size: int
        cutoffs: tuple[int, ...]
        narrowing: float

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.out = nn.AdaptiveLogSoftmaxWithLoss(
            config.hidden_size, config.vocab_size, list(config.cutoffs), config.narrowing, head_bias=True
        )

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits`: (batch, length, vocabulary) log-probabilities."""
        x: Tensor = output.last_hidden_state
        return {"logits": self.out.log_prob(x.flatten(0, 1)).unflatten(0, x.shape[:2])}

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over the tokens whose label is not -100."""
        return F.nll_loss(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED)
