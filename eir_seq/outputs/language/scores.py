"""What outputs have in common that score tokens: loss and perplexity of all tokens, whatever row they are in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from eir_seq.outputs.base import FittedOutput, TargetRows

LARGEST_EXPONENT = 700.0
"""Beyond, a perplexity is no longer a number of double precision."""


class FittedTokenScores(FittedOutput):
    """An output whose raw outputs are the summed negative log-likelihood (nats) of each row's tokens, and their number.

    Further columns are sums, too. Targets, (rows,), do not enter the loss.
    """

    @property
    def output_size(self) -> int:
        """Log-likelihood and number of tokens."""
        return 2

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """There is no target column: what is to be found is among the tensors of the input."""
        raise AssertionError((rows, ids))

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """The summed negative log-likelihood of each row's tokens, (batch, 1)."""
        del target
        return raw[:, :1].float()

    def loss_counts(self, inputs: Mapping[str, Mapping[str, Tensor]], target: Tensor) -> Tensor:
        """The tokens of each row that are to be found, (batch, 1)."""
        del target
        return (inputs[self.input]["labels"] >= 0).sum(dim=1, keepdim=True)

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss in nats per token, and perplexity; nothing where no row has a token to be found."""
        del target
        nll, tokens = raw[:, :2].double().sum(dim=0).tolist()
        if not tokens:
            return {}
        loss = nll / tokens
        return {"loss": loss, "perplexity": math.exp(min(loss, LARGEST_EXPONENT))}

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """Loss per token of each row."""
        del target
        return raw[:, 0] / raw[:, 1].clamp(min=1.0)

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """Loss per token of each row."""
        return {self.name: self.errors(raw, raw[:, 0]).tolist()}

    def describe(self) -> dict[str, Any]:
        """Type and input."""
        return {"type": self.config.type, "input": self.input}
