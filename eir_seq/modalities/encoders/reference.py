"""A backbone whose texts are also scored by the model that training began with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from eir_seq.modalities.encoders.backbone import SequenceEncoder
from eir_seq.models.heads.token_nll import row_sums, token_nll
from eir_seq.models.names import adapters
from eir_seq.models.output import TokenStates

LOG_LIKELIHOOD = "reference"
"""Among the inputs of the states: log-likelihood (nats) of each text's labels by the reference, (batch,)."""


class ReferencedEncoder(SequenceEncoder):
    """Reads texts, and scores their labels by the weights that training begins with.

    With fresh adapters of low rank these are the model without them. Otherwise they are a frozen copy, which is made at
    the start of each run, needs the memory of the weights once more, and is in no checkpoint. A network that was read
    from a bundle has no reference.
    """

    fresh_adapters: bool = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._copy: list[SequenceEncoder] = []  # a list, so that its weights are not among those of the network

    def keep_start(self) -> None:
        """Take the weights as they are for the reference."""
        if not self._has_adapters:
            self._copy[:] = [_without_reference(self, deepcopy(self.backbone)).requires_grad_(False).eval()]

    @property
    def _has_adapters(self) -> bool:
        return self.fresh_adapters and bool(adapters(self.backbone))

    def read(  # type: ignore[override]  # the tensors by name
        self, input_ids: Tensor, attention_mask: Tensor, *, labels: Tensor | None = None, **tensors: Any
    ) -> TokenStates:
        """States as of any encoder, and among their inputs the log-likelihood by the reference, if there is one.

        Args:
            input_ids: (batch, length).
            attention_mask: (batch, length), True at real tokens.
            labels: (batch, length), the tokens that are scored, negative elsewhere; each after those before it.
            tensors: as of `SequenceEncoder.read`.
        """
        found = super().read(input_ids, attention_mask, labels=labels, **tensors)
        if labels is None:
            return found
        # After the pass with gradients: autocast keeps its copies of weights, which then have them.
        with torch.no_grad():
            scores = self._scores(input_ids, attention_mask, labels=labels, **tensors)
        return found if scores is None else replace(found, inputs={**found.inputs, LOG_LIKELIHOOD: scores})

    def _scores(self, input_ids: Tensor, attention_mask: Tensor, **tensors: Any) -> Tensor | None:
        if self._has_adapters:
            with _without_adapters(self):
                return log_likelihood(super().read(input_ids, attention_mask, **tensors))
        for copy in self._copy:
            if (device := input_ids.device) != next(copy.parameters()).device:
                copy.to(device)
            return log_likelihood(copy.read(input_ids, attention_mask, **tensors))
        return None


def log_likelihood(tokens: TokenStates) -> Tensor:
    """Summed log-likelihood (nats) of the labels of each text, (batch,)."""
    head: Any = tokens.head
    labels = tokens.inputs["labels"][:, 1:]
    predicted = tokens.mask[:, 1:] & (labels >= 0)
    return -row_sums(
        token_nll(tokens.states[:, :-1][predicted], labels[predicted], head.scores, factors=head.factors, alike=False),
        predicted,
    )


def with_reference(encoder: SequenceEncoder, *, fresh_adapters: bool) -> ReferencedEncoder:
    """The encoder with a reference; `fresh_adapters`: its adapters of low rank changed nothing before training."""
    found = ReferencedEncoder(encoder.backbone, **_options(encoder))
    found.fresh_adapters = fresh_adapters
    return found


def _without_reference(encoder: SequenceEncoder, backbone: Any) -> SequenceEncoder:
    return SequenceEncoder(backbone, **_options(encoder))


def _options(encoder: SequenceEncoder) -> dict[str, Any]:
    return {name: getattr(encoder, name) for name in ("hidden_size", "pool", "frozen", "num_types", "max_length")}


@contextmanager
def _without_adapters(encoder: SequenceEncoder) -> Iterator[None]:
    """In evaluation mode, with the adapters of low rank off."""
    layers = [encoder.backbone.get_submodule(name) for name in adapters(encoder.backbone)]
    kept, training = [layer.lora for layer in layers], encoder.training
    encoder.eval()
    try:
        for layer in layers:
            layer.lora = None  # type: ignore[assignment]
        yield
    finally:
        for layer, lora in zip(layers, kept, strict=True):
            layer.lora = lora
        encoder.train(training)
