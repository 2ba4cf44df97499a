"""A stack over a text and other tokens after it, such as its entities or the regions of an image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from eir_seq.models.backbones.stack import Stack, StackPlan, check_mask
from eir_seq.models.layers.build import Part
from eir_seq.models.layers.embeddings import EmbeddingsPlan
from eir_seq.models.layers.layout import Layout
from eir_seq.models.layers.positions.position_ids import ArangePositionIds
from eir_seq.models.output import ModelOutput

OTHERS = "others"
"""Under this name mixers find the first states of the other tokens (batch, others, hidden) in the context."""


class OtherTokens(Protocol):
    """The config of a part that makes the first states of other tokens."""

    @property
    def features(self) -> tuple[str, ...]:
        """Documented inputs that it reads."""
        ...

    def build(self) -> nn.Module:
        """A module that is called with a dict of the given inputs and the module of the text's embeddings.

        It gives the states (batch, others, hidden) and their mask (batch, others), or None if there are none.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class JoinedPlan:
    """`layers` read text and others together.

    `name`: of the others in the output, where their states are separate (``<name>_last_hidden_state``); None
    where `last_hidden_state` holds all. `closing`: given, `layers` read the text only, and this layer all.
    """

    embeddings: EmbeddingsPlan
    others: OtherTokens
    layers: tuple[Part, ...]
    pooler: Part | None = None
    name: str | None = None
    closing: Part | None = None

    @property
    def hidden_size(self) -> int:
        """Width of the states."""
        return self.embeddings.hidden_size

    @property
    def inputs(self) -> tuple[str, ...]:
        """Documented inputs of the architecture itself."""
        return (*self.embeddings.features, *self.others.features)

    def build(self) -> Joined:
        """The backbone."""
        return Joined(self)


class GivenStates(nn.Module):
    """First states that are made elsewhere."""

    @dataclass(frozen=True)
    class Config:
        """`hidden_size`: width of the states."""

        hidden_size: int

        @property
        def features(self) -> tuple[str, ...]:
            """None."""
            return ()

        def build(self) -> GivenStates:
            """The module."""
            return GivenStates()

    numbering = ArangePositionIds()

    def forward(self, ids: None, vectors: Tensor, *_: Any) -> Tensor:  # noqa: ARG002
        """The vectors as they are; called as embeddings are."""
        return vectors


def known(features: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The features that are given.

    Raises:
        ValueError: one of them is not among `names`.
    """
    features = {name: feature for name, feature in features.items() if feature is not None}
    if unknown := set(features) - set(names):
        raise ValueError(f"unknown input {sorted(unknown)[0]!r}; this architecture takes no such tensor")
    return features


def first_states(
    embeddings: Any,
    input_ids: Tensor | None,
    inputs_embeds: Tensor | None,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    token_type_ids: Tensor | None = None,
    start: int = 0,
) -> Tensor:
    """The embedded text (batch, length, hidden), after `start` cached tokens; arguments as in `Stack.forward`.

    Raises:
        ValueError: neither or both of ids and vectors, a mask of another shape.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("give exactly one of input_ids and inputs_embeds")
    given = input_ids if input_ids is not None else inputs_embeds
    assert given is not None
    batch, length = given.shape[:2]
    check_mask(attention_mask, (batch, start + length))
    if position_ids is None:
        position_ids = embeddings.numbering((batch, length), input_ids, attention_mask, start, given.device)
    states: Tensor = embeddings(input_ids, inputs_embeds, position_ids.expand(batch, length), token_type_ids, {})
    return states


class Joined(nn.Module):
    """Reads a text together with other tokens; without them it is a plain stack."""

    def __init__(self, plan: JoinedPlan) -> None:
        super().__init__()
        self.plan = plan
        self.embeddings: Any = plan.embeddings.build()
        self.embeddings.others = plan.others.build()
        given = GivenStates.Config(plan.hidden_size)
        # the padding of a text precedes the others, which matters to no layer: positions are in the first states
        shared = StackPlan(embeddings=given, layers=plan.layers, features=(OTHERS,), packs_inner_padding=True)
        self.stack: Stack = shared.build()
        self.closing = replace(shared, layers=(plan.closing,)).build() if plan.closing else None
        self.pooler = plan.pooler.build() if plan.pooler else None

    @property
    def pack(self) -> bool:
        """Whether padding is left out of the computation."""
        return self.stack.pack

    @pack.setter
    def pack(self, pack: bool) -> None:
        self.stack.pack = pack
        if self.closing is not None:
            self.closing.pack = pack

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        head_mask: Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        **features: Tensor,
    ) -> ModelOutput:
        """One pass, see `Stack.forward` for arguments and errors; `features` are those of the other tokens."""
        features = known(features, self.plan.inputs)
        x = first_states(self.embeddings, input_ids, inputs_embeds, attention_mask, position_ids, token_type_ids)
        batch, length = x.shape[:2]
        wanted: dict[str, Any] = {
            "head_mask": head_mask,
            "output_hidden_states": output_hidden_states,
            "output_attentions": output_attentions,
        }
        found: tuple[Tensor, Tensor | None] | None = self.embeddings.others(features, self.embeddings)
        if found is None:
            output = self.stack(attention_mask=attention_mask, inputs_embeds=x, **wanted)
        elif self.closing is None:
            output = self._together(self.stack, x, attention_mask, *found, **wanted)
        else:
            output = self.stack(attention_mask=attention_mask, inputs_embeds=x, **wanted)
            last = self._together(self.closing, output.last_hidden_state, attention_mask, *found)
            output = ModelOutput.of(**{**output, **last})
        states: Tensor = output.last_hidden_state
        if self.pooler is not None:
            output["pooler_output"] = self.pooler(states, Layout.padded(batch, states.shape[1], None))
        return output if self.plan.name is None else self._apart(output, length)

    @staticmethod
    def _together(
        stack: Stack, x: Tensor, mask: Tensor | None, others: Tensor, others_mask: Tensor | None, **wanted: Any
    ) -> ModelOutput:
        """One pass over text and others; masks are (batch, ...), None where all is real."""
        if mask is not None or others_mask is not None:
            mask = x.new_ones(x.shape[:2]) if mask is None else mask
            others_mask = x.new_ones(others.shape[:2]) if others_mask is None else others_mask
            mask = torch.cat((mask.bool(), others_mask.bool()), 1)
        both = torch.cat((x, others), 1)
        output: ModelOutput = stack(attention_mask=mask, inputs_embeds=both, **wanted, **{OTHERS: others})
        return output

    def _apart(self, output: ModelOutput, length: int) -> ModelOutput:
        """Text under transformers' names, the others under their own."""
        name, states, every = self.plan.name, output.last_hidden_state, output.hidden_states
        if states.shape[1] == length:
            return output
        parts = {"last_hidden_state": states[:, :length], f"{name}_last_hidden_state": states[:, length:]}
        if every is not None:
            parts |= {
                "hidden_states": tuple(x[:, :length] for x in every),
                f"{name}_hidden_states": tuple(x[:, length:] for x in every),
            }
        return ModelOutput.of(**{**output, **parts})
