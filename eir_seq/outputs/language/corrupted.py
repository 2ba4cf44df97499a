"""What outputs share that restore what was taken out of texts: hidden tokens, spans, a whole text."""

from __future__ import annotations

from typing import Any

from torch import nn

from eir_seq.outputs.language.config import CorruptedOutputBase, RestoredOutputBase
from eir_seq.outputs.language.decoder_head import Seq2SeqLmHead
from eir_seq.outputs.language.scores import FittedTokenScores


class FittedPretraining(FittedTokenScores):
    """An output that learns from texts alone; what it is to find is among the tensors of its input."""

    config: CorruptedOutputBase

    def __init__(self, state: Any) -> None:
        super().__init__(state)
        self.backbone_task = self.config.TASK


class FittedRestoring(FittedPretraining):
    """An output whose decoder writes what was taken out."""

    config: RestoredOutputBase

    def build_head(self, in_features: int) -> nn.Module:
        """Token states (batch, length, in_features) to raw outputs (batch, 2); without its own parameters."""
        del in_features
        return Seq2SeqLmHead(self.config.label_smoothing)
