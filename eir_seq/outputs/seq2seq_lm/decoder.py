"""A decoder that attends to the states of any inputs: pictures, tables, arrays, texts, several of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models.output import TokenStates
from eir_seq.outputs.language.decoder_head import Seq2SeqLmHead


class StateDecoder(Seq2SeqLmHead):
    """The decoder of an encoder-decoder of the catalogue; linear projections of the inputs' states are its memory.

    Args:
        model: built for the task ``seq2seq-lm``; its encoder is dropped.
        sizes: width of the states of each input.
        label_smoothing: see `Seq2SeqLmHead`.
        begun: tokens of every target that the decoder begins with anyway.
    """

    def __init__(self, model: Any, sizes: Mapping[str, int], label_smoothing: float, begun: int) -> None:
        super().__init__(label_smoothing)
        model.body.drop_encoder()
        self.backbone, self.begun = model, begun
        self.projections = nn.ModuleDict(
            {_key(name): _projection(size, _memory_size(model)) for name, size in sizes.items()}
        )

    def forward(self, states: Mapping[str, TokenStates], labels: Tensor | None) -> Tensor:  # type: ignore[override]
        """Per row the summed negative log-likelihood (nats) of its target, and the tokens of that: (batch, 2).

        Args:
            states: by input, each (batch, length, size).
            labels: (batch, target length), negative after the end of a target; None for zeros.
        """
        memory = self.inputs_of(**self.memory(states))
        if labels is None:
            mask: Tensor = memory["attention_mask"]
            return torch.zeros(len(mask), 2, device=mask.device)
        return super().forward(self._read(memory, labels))

    def memory(self, states: Mapping[str, TokenStates]) -> dict[str, Tensor]:
        """What the decoder attends to: `memory` (batch, sum of lengths, size) and its `mask`."""
        projected = [self.projections[_key(name)](found.states) for name, found in states.items()]
        mask = torch.cat([found.mask.bool() for found in states.values()], dim=1)
        return {"memory": torch.cat(projected, dim=1).masked_fill(~mask[..., None], 0.0), "mask": mask}

    def inputs_of(self, memory: Tensor, mask: Tensor) -> dict[str, Any]:
        """The documented arguments of the model that stand for its source."""
        return {"encoder_outputs": (memory,), "attention_mask": mask.long()}

    def read(self, memory: Tensor, mask: Tensor, *, labels: Tensor) -> TokenStates:
        """States of the decoder at each token of the target, from the true tokens before it."""
        return self._read(self.inputs_of(memory, mask), labels)

    def example(self, end: int) -> dict[str, Any]:
        """Arguments of `generate` for a source of one state; `end` ends a text."""
        del end
        parameter = next(self.backbone.parameters())
        memory = parameter.new_zeros(1, 1, _memory_size(self.backbone))
        return self.inputs_of(memory, torch.ones(1, 1, dtype=torch.bool, device=parameter.device))

    def _read(self, memory: Mapping[str, Any], labels: Tensor) -> TokenStates:
        head = self.backbone.head
        labels = labels.long()
        if labels.shape[1] > self.begun:
            labels = labels[:, self.begun :]
        # The first state has to see something where a row has no target.
        there = (labels >= 0) | (torch.arange(labels.shape[1], device=labels.device) == 0)
        inputs = {**head.prepare({}, {"labels": labels}), "decoder_attention_mask": there, **memory}
        output = self.backbone.run_body(inputs)
        states = head.states(output)
        found = TokenStates(states, labels >= 0, {"labels": labels}, head)
        return replace(found, further_loss=head.further_loss(output, inputs))


def _projection(size: int, memory: int) -> nn.Module:
    """Normalized, as the last layer of an encoder is: attention of the decoder expects states of that scale."""
    return nn.Sequential(nn.Linear(size, memory), nn.LayerNorm(memory))


def _memory_size(model: Any) -> int:
    """Width of what the decoder attends to."""
    size: int = model.body.plan.encoder.hidden_size
    return size


def _key(name: str) -> str:
    return f"of_{name}"  # ModuleDict refuses the names of its attributes, such as "keys"
