"""What heads share: the interface that a model calls, and the losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.heads.linear_nll import Factors
from eir_seq.models.layers.build import Configured
from eir_seq.models.output import ModelOutput

Inputs = dict[str, Any]
Targets = Mapping[str, Tensor]

IGNORED = -100
"""Label of tokens that the loss leaves out."""


class Head(Configured):
    """Turns what a body returns into predictions, and predictions and targets into a loss.

    `targets`: transformers' names of the tensors that the loss needs. `inputs`: of those that only the head reads.
    `reads_padding`: states at padding enter the loss.
    """

    targets: tuple[str, ...] = ("labels",)
    inputs: tuple[str, ...] = ()
    reads_padding = False

    def prepare(self, inputs: Inputs, targets: Targets) -> Inputs:
        """The inputs of the body; a head may complete or reshape them."""
        return inputs

    def states(self, output: ModelOutput) -> Tensor:
        """(batch, length, hidden), of the body's output: the states by which each token of the text is predicted."""
        states: Tensor = output.last_hidden_state
        return states

    def factors(self, x: Tensor) -> Factors | None:
        """What the scores of states (tokens, hidden) over the vocabulary are the product of; None if there is more."""
        return None

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Predictions under their names in transformers, from the body's output and what the caller gave."""
        raise NotImplementedError

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """Transformers' loss, a scalar; None if its targets are not given."""
        labels = targets.get("labels")
        return None if labels is None else self.label_loss(predictions["logits"], labels)

    @property
    def further_by_texts(self) -> bool:
        """Whether `further_loss` is a mean over texts; else it is one over tokens."""
        return False

    def further_loss(self, output: ModelOutput, inputs: Mapping[str, Any]) -> Tensor | None:
        """What transformers' loss has besides that of the targets, a scalar; None if there is no such thing."""
        return None

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of heads whose only target are labels."""
        raise NotImplementedError

    def tie(self, body: nn.Module) -> None:
        """Share parameters with the body."""


def classification_loss(logits: Tensor, labels: Tensor, num_labels: int, problem_type: str | None) -> Tensor:
    """Squared error, cross-entropy or one binary cross-entropy per class, by `problem_type` or guessed from the labels.

    Args:
        logits: (batch, num_labels).
        labels: (batch,) class numbers or values, or (batch, num_labels) zeros and ones.
    """
    if problem_type is None:
        if num_labels == 1:
            problem_type = "regression"
        else:
            problem_type = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
    if problem_type == "regression":
        return F.mse_loss(logits.squeeze(), labels.squeeze().to(logits.dtype))
    if problem_type == "single_label_classification":
        return F.cross_entropy(logits.view(-1, num_labels), labels.view(-1))
    return F.binary_cross_entropy_with_logits(logits, labels)


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over tokens (batch, length) whose label is not -100; logits (batch, length, vocabulary)."""
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED)
