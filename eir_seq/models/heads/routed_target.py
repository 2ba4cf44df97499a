"""The language model of an encoder and a decoder with sparse experts, whose loss wants all of them to be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eir_seq.models.heads.base import Targets
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.output import ModelOutput

SIDES = {"encoder": "attention_mask", "decoder": "decoder_attention_mask"}


class RoutedTarget(LanguageModel):
    """Scores of a target's tokens; where the scores of routers are returned, their losses enter that of the target.

    `of_side` says what these are. They are predictions, too: `encoder_aux_loss`, `decoder_aux_loss` ...
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(LanguageModel.Config):
        """`balance`: weight of the losses `aux_loss`."""

        balance: float

    config: Config

    @property
    def weights(self) -> dict[str, float]:
        """Those of the losses of routers, by name."""
        return {"aux_loss": self.config.balance}

    def of_side(self, layers: Sequence[Tensor], real: Tensor | None) -> dict[str, Tensor]:
        """The losses of a side, scalars by the names of `weights`.

        Args:
            layers: what the routers return, each (batch, length, experts).
            real: (batch, length) bool, None if there is no padding.
        """
        raise NotImplementedError

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits` (batch, length, vocabulary) and the losses of each side whose scores are there."""
        return super().forward(output, inputs) | self._of_routers(output, inputs)

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """Cross-entropy plus the weighted losses of the routers."""
        loss, further = super().loss(predictions, targets), self._weighted(predictions)
        return loss if loss is None or further is None else loss + further

    def further_loss(self, output: ModelOutput, inputs: Mapping[str, Any]) -> Tensor | None:
        """The weighted losses of the routers."""
        return self._weighted(self._of_routers(output, inputs))

    def _weighted(self, found: Mapping[str, Tensor]) -> Tensor | None:
        losses = ((weight, f"{side}_{kind}") for kind, weight in self.weights.items() for side in SIDES)
        parts = [weight * found[name] for weight, name in losses if name in found]
        return torch.stack(parts).sum() if parts else None

    def _of_routers(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for side, mask in SIDES.items():
            if layers := output.get(f"{side}_router_logits"):
                given: Tensor | None = inputs.get(mask)
                real = None if given is None else given[:, -layers[0].shape[1] :].bool()
                found |= {f"{side}_{kind}": loss for kind, loss in self.of_side(layers, real).items()}
        return found
