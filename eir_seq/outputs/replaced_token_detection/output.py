"""Which tokens of a text a generator has put there (Electra, https://arxiv.org/abs/2003.10555)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from eir_seq.config.strict import Strict
from eir_seq.models.output import ModelOutput, TokenStates
from eir_seq.outputs.base import Output
from eir_seq.outputs.language.corrupted import FittedPretraining
from eir_seq.outputs.replaced_token_detection.config import ReplacedTokenDetectionOutputConfig


class ReplacedTokenDetectionState(Strict):
    """The state of a detection of replaced tokens: its config, with the input that it reads."""

    type: Literal["replaced_token_detection"] = "replaced_token_detection"
    name: str
    config: ReplacedTokenDetectionOutputConfig


class ReplacedTokenHead(nn.Module):
    """Scores tokens by the head of the backbone, which the encoder holds."""

    def forward(self, tokens: TokenStates) -> Tensor:
        """Sums over the tokens of each row, (batch, 7).

        They are the generator's negative log-likelihood (nats) of hidden tokens, the number of those, the binary
        cross-entropy (nats) of all tokens, the number of those, and of replaced ones how many were found, wrongly
        suspected, and missed.
        """
        head: Any = tokens.head
        logits = head(ModelOutput.of(last_hidden_state=tokens.states), tokens.inputs)["logits"].float()
        there, replaced = tokens.mask, tokens.inputs["replaced"]
        losses = functional.binary_cross_entropy_with_logits(logits, replaced.to(logits.dtype), reduction="none")
        suspected = (logits > 0) & there
        columns = [
            tokens.inputs["generator_nll"],
            tokens.inputs["hidden"],
            losses.masked_fill(~there, 0.0).sum(dim=1),
            there.sum(dim=1),
            (suspected & replaced).sum(dim=1),
            (suspected & ~replaced).sum(dim=1),
            (replaced & ~suspected & there).sum(dim=1),
        ]
        return torch.stack([column.float() for column in columns], dim=1)


class FittedReplacedTokenDetection(FittedPretraining):
    """A detection of replaced tokens; raw outputs are those of `ReplacedTokenHead`."""

    config: ReplacedTokenDetectionOutputConfig

    @property
    def output_size(self) -> int:
        """The sums of `ReplacedTokenHead`."""
        return 7

    def build_head(self, in_features: int) -> ReplacedTokenHead:
        """Token states (batch, length, in_features) to raw outputs (batch, 7); without its own parameters."""
        del in_features
        return ReplacedTokenHead()

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """The generator's negative log-likelihood and the weighted cross-entropy of the detection, (batch, 2)."""
        return torch.cat([super().loss_terms(raw, target), self.config.detection_weight * raw[:, 2:3]], dim=1)

    def loss_counts(self, inputs: Mapping[str, Mapping[str, Tensor]], target: Tensor) -> Tensor:
        """The hidden tokens of each row and all of its tokens, (batch, 2)."""
        there = inputs[self.input]["attention_mask"].bool().sum(dim=1, keepdim=True)
        return torch.cat([super().loss_counts(inputs, target), there], dim=1)

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """The weighted sum of both losses, each loss per token, and how well replaced tokens are found.

        Nothing where no token was hidden.
        """
        del target
        nll, hidden, entropy, tokens, found, wrong, missed = raw.double().sum(dim=0).tolist()
        if not hidden:
            return {}
        generator, detection = nll / hidden, entropy / tokens
        return {
            "loss": generator + self.config.detection_weight * detection,
            "generator_loss": generator,
            "detection_loss": detection,
            "accuracy": 1.0 - (wrong + missed) / tokens,
            "precision": found / max(found + wrong, 1.0),
            "recall": found / max(found + missed, 1.0),
            "f1": 2 * found / max(2 * found + wrong + missed, 1.0),
        }

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy per token of each row."""
        del target
        return raw[:, 2] / raw[:, 3].clamp(min=1.0)


class ReplacedTokenDetection(Output):
    """A detection of replaced tokens as declared; what there is to fit, the tokenizer, its input fits."""

    STATE = ReplacedTokenDetectionState
    FITTED = FittedReplacedTokenDetection
