"""The next token and the right choice among several texts, predicted together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.heads.base import Head, Inputs, Targets
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.spans_and_tokens import flat_choices
from eir_seq.models.heads.summary import SummaryClassification
from eir_seq.models.output import ModelOutput


class DoubleHeads(Head):
    """Scores of the next token for every choice of a text, and scores of the choices (gpt2, openai-gpt).

    Transformers' `loss` is that of the tokens; that of the choices, `mc_loss`, is separate.
    """

    inputs = ("mc_token_ids", "mc_labels")
    reads_padding = True

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config):
        """The two heads. `place_given`: the choice's state is that of the place `mc_token_ids`, where it is given."""

        tokens: LanguageModel.Config
        choices: SummaryClassification.Config
        place_given: bool

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.tokens = config.tokens.build()
        self.choices = config.choices.build()

    def tie(self, body: Any) -> None:
        """Score tokens by the body's token table."""
        self.tokens.tie(body)

    def prepare(self, inputs: Inputs, targets: Targets) -> Inputs:
        """(batch, choices, ...) -> (batch * choices, ...)."""
        return flat_choices(inputs)

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Both scores, and the loss of the choices.

        Args:
            output: of the body, choices as their own texts.
            inputs: with `mc_token_ids` (batch, choices), the place of the token whose state stands for its choice, and
                `mc_labels` (batch,), the right choice.

        Returns:
            `logits`: (batch, choices, length, vocabulary); `mc_logits`: (batch, choices), or (batch, choices, width)
            of a summary that is not projected to one number; with `mc_labels` also `mc_loss`.
        """
        given = inputs["input_ids"] if inputs.get("input_ids") is not None else inputs["inputs_embeds"]
        states: Tensor = output.last_hidden_state
        scores = self.tokens.scores(states).unflatten(0, given.shape[:2])
        places: Tensor | None = inputs.get("mc_token_ids")
        if self.config.place_given and places is not None:
            rows = torch.arange(states.shape[0], device=states.device)
            output = ModelOutput.of(last_hidden_state=states[rows, places.flatten()][:, None])
        choices = self.choices(output, inputs)["logits"].unflatten(0, given.shape[:2]).squeeze(-1)
        found = {"logits": scores, "mc_logits": choices}
        if (labels := inputs.get("mc_labels")) is not None:
            found["mc_loss"] = F.cross_entropy(choices.flatten(0, -2), labels.flatten())
        return found

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over the tokens (batch, choices, length) whose label is not -100."""
        return self.tokens.label_loss(logits.flatten(0, 1), labels.flatten(0, 1))
