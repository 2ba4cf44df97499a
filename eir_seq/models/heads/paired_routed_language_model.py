"""The language model of an encoder and a decoder with sparse experts, whose loss wants all of them to be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eir_seq.models.blocks.best_two_experts import share_loss
from eir_seq.models.heads.base import Targets
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.output import ModelOutput

SIDES = ("encoder", "decoder")


class PairedRoutedLanguageModel(LanguageModel):
    """Where the weights of experts are returned, they enter the loss."""

    @dataclass(frozen=True, kw_only=True)
    class Config(LanguageModel.Config):
        """`balance`: weight of the loss of each side's experts."""

        balance: float

    config: Config

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits` (batch, length, vocabulary) and, of sides whose weights are there, `..._aux_loss`, a scalar."""
        return {**super().forward(output, inputs), **self._unbalanced(output)}

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """Cross-entropy plus the weighted losses of both sides."""
        loss = super().loss(predictions, targets)
        sides = [predictions[name] for side in SIDES if (name := f"{side}_aux_loss") in predictions]
        return loss if loss is None or not sides else loss + self.config.balance * torch.stack(sides).sum()

    def further_loss(self, output: ModelOutput, inputs: Mapping[str, Any]) -> Tensor | None:
        """The weighted losses of both sides."""
        sides = list(self._unbalanced(output).values())
        return self.config.balance * torch.stack(sides).sum() if sides else None

    @staticmethod
    def _unbalanced(output: ModelOutput) -> dict[str, Tensor]:
        """The mean over the layers of each side."""
        return {
            f"{side}_aux_loss": torch.stack([share_loss(x) for x in layers]).mean()
            for side in SIDES
            if (layers := output.get(f"{side}_router_logits"))
        }
