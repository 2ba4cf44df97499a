"""A decoder of several streams: one reads a text, the others predict it from ever earlier tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eir_seq.models.backbones.stack import Stack, StackPlan
from eir_seq.models.output import ModelOutput


@dataclass(frozen=True, kw_only=True)
class NgramPlan(StackPlan):
    """A bill of materials.

    Its embeddings give the states of all streams, one after the other: (batch, streams * length, hidden); its mixers
    append the weights of all to `attentions`: (batch, streams, heads, length, keys + 1), the last column being that of
    a predicting token itself. `streams`: all of them.
    """

    streams: int
    packable: bool = False

    def build(self) -> NgramStack:
        """The decoder."""
        return NgramStack(self)


class NgramStack(Stack):
    """The layers do not tell streams apart, but for their mixers; what it returns does."""

    plan: NgramPlan

    def forward(self, *args: Any, **inputs: Any) -> ModelOutput:
        """See `Stack.forward`.

        Additional fields: `last_hidden_state_ngram` and `hidden_states_ngram`, (batch, n * length, hidden), of the n
        predicting streams; `ngram_attentions`: (batch, n, heads, length, keys + length), whose last columns are those
        of the stream's own tokens.
        """
        output = super().forward(*args, **inputs)
        length = output.last_hidden_state.shape[1] // self.plan.streams
        states, weights = output.hidden_states, output.attentions
        return ModelOutput.of(
            last_hidden_state=output.last_hidden_state[:, :length],
            last_hidden_state_ngram=output.last_hidden_state[:, length:],
            past_key_values=output.past_key_values,
            hidden_states=states and tuple(x[:, :length] for x in states),
            hidden_states_ngram=states and tuple(x[:, length:] for x in states),
            attentions=weights and tuple(x[:, 0, ..., :-1] for x in weights),
            ngram_attentions=weights and tuple(map(_with_own_columns, weights)),
            cross_attentions=output.cross_attentions,
        )


def _with_own_columns(weights: Tensor) -> Tensor:
    return torch.cat((weights[:, 1:, ..., :-1], torch.diag_embed(weights[:, 1:, ..., -1])), -1)
