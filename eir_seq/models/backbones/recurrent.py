"""A stack whose mixers carry a state of fixed size from token to token."""

from __future__ import annotations

import torch

from eir_seq.models.backbones.stack import Stack
from eir_seq.models.layers.cache import Cache


class RecurrentStack(Stack):
    """A stack whose mixers bring texts to a rectangle themselves, so that padding is left out with a cache too."""

    def _packs(self, cache: Cache | None, device: torch.device, *weights_touched: object) -> bool:  # noqa: ARG002
        return super()._packs(None, device, *weights_touched)
