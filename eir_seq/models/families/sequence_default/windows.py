"""A stack over windows side by side: each text is cut, and its pieces are read as their own texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.backbones.stack import Stack, StackPlan, check_mask
from eir_seq.models.output import ModelOutput


@dataclass(frozen=True, kw_only=True)
class WindowsPlan:
    """`size`: tokens per window."""

    stack: StackPlan
    size: int

    @property
    def hidden_size(self) -> int:
        """Width of the states."""
        return self.stack.hidden_size

    @property
    def inputs(self) -> tuple[str, ...]:
        """Documented inputs of the architecture itself."""
        return self.stack.inputs

    def build(self) -> Windows:
        """The backbone."""
        return Windows(self)


class Windows(nn.Module):
    """Reads windows as rows of a larger batch; position ids continue from window to window."""

    def __init__(self, plan: WindowsPlan) -> None:
        super().__init__()
        self.plan = plan
        self.stack: Stack = plan.stack.build()

    @property
    def embeddings(self) -> nn.Module:
        """The embeddings whose token table a language-model head may share."""
        return self.stack.embeddings

    @property
    def pack(self) -> bool:
        """Whether padding is left out of the computation."""
        return self.stack.pack

    @pack.setter
    def pack(self, pack: bool) -> None:
        self.stack.pack = pack

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        **others: Any,
    ) -> ModelOutput:
        """See `Stack.forward`; attention weights are those within windows: (batch * windows, heads, size, size)."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        given = input_ids if input_ids is not None else inputs_embeds
        assert given is not None
        batch, length = given.shape[:2]
        check_mask(attention_mask, (batch, length))
        if length <= self.plan.size:
            passed = {"inputs_embeds": inputs_embeds, "position_ids": position_ids, **others}
            wanted = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
            whole: ModelOutput = self.stack(input_ids, attention_mask, **passed, **wanted)
            return whole
        if attention_mask is None:
            attention_mask = torch.ones(batch, length, dtype=torch.long, device=given.device)
        if position_ids is None:
            position_ids = torch.arange(length, device=given.device).expand(batch, -1)
        if inputs_embeds is None:  # looked up before the cut: a hook on the table sees the rows of the batch
            inputs_embeds = self.stack.embeddings.tokens(input_ids)
        output: ModelOutput = self.stack(
            None,
            self._cut(attention_mask),
            inputs_embeds=self._cut(inputs_embeds),
            position_ids=self._cut(position_ids),
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            **others,
        )

        def join(x: Tensor) -> Tensor:
            return x.unflatten(0, (batch, -1)).flatten(1, 2)[:, :length]

        states = output.hidden_states
        return ModelOutput.of(
            last_hidden_state=join(output.last_hidden_state),
            hidden_states=None if states is None else tuple(map(join, states)),
            attentions=output.attentions,
        )

    def _cut(self, x: Tensor | None) -> Tensor | None:
        """(batch, length, ...) -> (batch * windows, size, ...), zero after the end."""
        if x is None:
            return None
        missing = -x.shape[1] % self.plan.size
        return F.pad(x, (0, 0) * (x.dim() - 2) + (0, missing)).unflatten(1, (-1, self.plan.size)).flatten(0, 1)
