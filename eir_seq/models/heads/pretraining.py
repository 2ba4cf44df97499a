"""The head of bert's pretraining: hidden tokens and the order of two texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from eir_seq.models.heads.base import Head, Targets, token_loss
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.output import ModelOutput


class PreTraining(Head):
    """Hidden tokens and the order of two texts."""

    targets = ("labels", "next_sentence_label")
    pairs_logits = "seq_relationship_logits"

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config):
        """The two heads; that of `pairs` has two labels."""

        tokens: LanguageModel.Config
        pairs: SequenceClassification.Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.tokens = config.tokens.build()
        self.pairs: Head = config.pairs.build()

    def tie(self, body: Any) -> None:
        """Score tokens by the body's token table."""
        self.tokens.tie(body)

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`prediction_logits`: (batch, length, vocabulary); `seq_relationship_logits`: (batch, 2)."""
        return {
            "prediction_logits": self.tokens.scores(output.last_hidden_state),
            self.pairs_logits: self.pairs(output, inputs)["logits"],
        }

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """The sum of both losses; None unless both targets are given."""
        tokens, pairs = self.targets
        if tokens not in targets or pairs not in targets:
            return None
        order = self.pairs.label_loss(predictions[self.pairs_logits], targets[pairs])
        return token_loss(predictions["prediction_logits"], targets[tokens]) + order
