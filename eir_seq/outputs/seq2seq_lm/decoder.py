"""A decoder that attends to the states of any inputs: pictures, tables, arrays, texts, several of them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from eir_seq.backbones import memory_size
from eir_seq.models.backbones.encoder_decoder import EncoderDecoder
from eir_seq.models.heads.sequence_classification import shifted_right
from eir_seq.models.output import TokenStates
from eir_seq.outputs.language.decoder_head import Seq2SeqLmHead


class StateDecoder(Seq2SeqLmHead):
    """The decoder of an encoder-decoder of the catalogue; linear projections of the inputs' states are its memory.

    Args:
        model: built for the task ``seq2seq-lm``; its encoder is dropped.
        sizes: width of the states of each input.
        label_smoothing: see `Seq2SeqLmHead`.
        start: the token that the decoder begins with; None for the last one of each target.
        given_tokens: tokens of every target that the decoder begins with anyway.
        frozen: keep loaded weights as they are, in evaluation mode; what the checkpoint lacks is trained.
    """

    def __init__(
        self,
        model: Any,
        sizes: Mapping[str, int],
        label_smoothing: float,
        *,
        start: int | None,
        given_tokens: int,
        frozen: bool = False,
    ) -> None:
        super().__init__(label_smoothing)
        if frozen:
            report = getattr(model, "load_report", None)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(report is not None and name in report.initialised)
        if isinstance(model.body, EncoderDecoder):
            model.body.drop_encoder()
        self.backbone, self.start, self.given_tokens, self.frozen = model, start, given_tokens, frozen
        self.memory_size = memory_size(model)
        self.projections = nn.ModuleDict(
            {_key(name): _projection(size, self.memory_size) for name, size in sizes.items()}
        )
        self.train()  # loaded weights come in evaluation mode

    def train(self, mode: bool = True) -> Self:
        """Training mode for all but what is frozen."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, states: Mapping[str, TokenStates], labels: Tensor | None) -> Tensor:  # type: ignore[override]
        """Per row the summed negative log-likelihood (nats) of its target, and the tokens of that: (batch, 2).

        Args:
            states: by input, each (batch, length, size).
            labels: (batch, target length), negative after the end of a target; None for zeros.
        """
        memory = self.memory(states)
        if labels is None:
            mask = memory["mask"]
            return torch.zeros(len(mask), 2, device=mask.device)
        return super().forward(self.read(**memory, labels=labels))

    def memory(self, states: Mapping[str, TokenStates]) -> dict[str, Tensor]:
        """What the decoder attends to: `memory` (batch, sum of lengths, size) and its `mask`."""
        projected = [self.projections[_key(name)](found.states) for name, found in states.items()]
        mask = torch.cat([found.mask.bool() for found in states.values()], dim=1)
        return {"memory": torch.cat(projected, dim=1).masked_fill(~mask[..., None], 0.0), "mask": mask}

    hold: Callable[[Mapping[str, Tensor]], None] | None = None
    """Takes messages from other layers for what the decoder does next, where there are any."""

    def inputs_of(self, memory: Tensor, mask: Tensor, **messages: Tensor) -> dict[str, Any]:
        """Transformers' arguments of `generate` for such a memory; messages are held."""
        self._receive(messages)
        return {"encoder_outputs": (memory,), "attention_mask": mask.long()}

    def read(self, memory: Tensor, mask: Tensor, *, labels: Tensor, **messages: Tensor) -> TokenStates:
        """States of the decoder at each token of the target, from the true tokens before it."""
        self._receive(messages)
        head = self.backbone.head
        labels = labels.long()
        if labels.shape[1] > self.given_tokens:
            labels = labels[:, self.given_tokens :]
        # The first state has to see something where a row has no target.
        there = (labels >= 0) | (torch.arange(labels.shape[1], device=labels.device) == 0)
        inputs = self._inputs(memory, mask, labels, there)
        output = self.backbone.run_body(inputs)
        states = head.states(output)
        found = TokenStates(states, labels >= 0, {"labels": labels}, head)
        return replace(found, further_loss=head.further_loss(output, inputs))

    def example(self, end: int) -> dict[str, Any]:
        """Arguments of `generate` for a source of one state; `end` ends a text."""
        del end
        memory = next(self.backbone.parameters()).new_zeros(1, 1, self.memory_size)
        return self.inputs_of(memory, torch.ones(1, 1, dtype=torch.bool, device=memory.device))

    def _receive(self, messages: Mapping[str, Tensor]) -> None:
        if messages and self.hold is not None:
            self.hold(messages)

    def _inputs(self, memory: Tensor, mask: Tensor, labels: Tensor, there: Tensor) -> dict[str, Any]:
        """Transformers' arguments of a pass over targets, of which the tokens `there` are real."""
        targets = self.backbone.head.prepare({}, {"labels": labels})
        return {**targets, "decoder_attention_mask": there, **self.inputs_of(memory, mask)}


class CausalStateDecoder(StateDecoder):
    """The same of a causal language model with cross-attention."""

    start: int

    def inputs_of(self, memory: Tensor, mask: Tensor, **messages: Tensor) -> dict[str, Any]:
        """See `StateDecoder.inputs_of`."""
        self._receive(messages)
        start = torch.full((len(memory), 1), self.start, device=memory.device)
        states = {"encoder_hidden_states": memory, "encoder_attention_mask": mask.long()}
        return {"input_ids": start, "attention_mask": torch.ones_like(start), **states}

    def _inputs(self, memory: Tensor, mask: Tensor, labels: Tensor, there: Tensor) -> dict[str, Any]:
        tokens = shifted_right(labels, self.start, getattr(self.backbone.config, "pad_token_id", None) or 0)
        return {**self.inputs_of(memory, mask), "input_ids": tokens, "attention_mask": there.long()}


def _projection(size: int, memory: int) -> nn.Module:
    """Normalized, as the last layer of an encoder is: attention of the decoder expects states of that scale."""
    return nn.Sequential(nn.Linear(size, memory), nn.LayerNorm(memory))


def _key(name: str) -> str:
    return f"of_{name}"  # ModuleDict refuses the names of its attributes, such as "keys"
