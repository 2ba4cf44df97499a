"""The language model of a body with sparse experts, whose loss wants all of them to be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from eir_seq.models.heads.base import Targets
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.layers.moe.experts import balance_loss
from eir_seq.models.output import ModelOutput


class RoutedLanguageModel(LanguageModel):
    """Where the scores of routers are returned, they enter the loss."""

    @dataclass(frozen=True, kw_only=True)
    class Config(LanguageModel.Config):
        """`per_token`: experts that a token goes through; `balance`: weight of their loss."""

        per_token: int
        balance: float

    config: Config

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits` (batch, length, vocabulary) and, if routers' scores are there, `aux_loss`, a scalar."""
        predictions = super().forward(output, inputs)
        if (unbalanced := self._unbalanced(output, inputs)) is not None:
            predictions["aux_loss"] = unbalanced
        return predictions

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """Cross-entropy plus the weighted loss of the routers."""
        loss = super().loss(predictions, targets)
        if loss is None or "aux_loss" not in predictions:
            return loss
        return loss + self.config.balance * predictions["aux_loss"]

    def further_loss(self, output: ModelOutput, inputs: Mapping[str, Any]) -> Tensor | None:
        """The weighted loss of the routers."""
        unbalanced = self._unbalanced(output, inputs)
        return None if unbalanced is None else self.config.balance * unbalanced

    def _unbalanced(self, output: ModelOutput, inputs: Mapping[str, Any]) -> Tensor | None:
        if output.router_logits is None:
            return None
        mask: Tensor | None = inputs.get("attention_mask")
        real = None if mask is None else mask[:, -output.router_logits[0].shape[1] :].bool()
        return balance_loss(output.router_logits, self.config.per_token, real)
