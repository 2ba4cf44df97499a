"""An encoder that can keep states between texts, and predict tokens that it must not see by a second stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models.backbones.stack import check_mask
from eir_seq.models.families.xlnet.attention import StreamContext
from eir_seq.models.layers.checkpointing import CheckpointsLayers
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.layout import Layout
from eir_seq.models.layers.positions.absolute import SinesThenCosines
from eir_seq.models.layers.residual import LayerPlan
from eir_seq.models.output import ModelOutput

STREAM_INPUTS = ("token_type_ids", "perm_mask", "target_mapping", "mems", "input_mask", "use_mems")


@dataclass(frozen=True, kw_only=True)
class TwoStreamsPlan:
    """A bill of materials.

    `causal`: a token sees itself and those before, `same_length`: equally many of them each. `max_distance`: distances
    beyond it count as it. `halves`: the second half of a batch counts distances backwards. `keeps`: states that are
    kept at most (None or 0: all), of the first `reuses` tokens of a text only (None or 0: of all); `keeps_by_default`:
    in evaluation, in training. `dropout`: on embeddings, distances and the last states.
    """

    embeddings: Embeddings.Config
    layers: tuple[LayerPlan, ...]
    causal: bool = False
    same_length: bool = False
    max_distance: int | None = None
    halves: bool = False
    keeps: int | None = None
    reuses: int | None = None
    keeps_by_default: tuple[bool, bool] = (True, False)
    dropout: float = 0.0

    @property
    def hidden_size(self) -> int:
        """Width of the states."""
        return self.embeddings.hidden_size

    @property
    def inputs(self) -> tuple[str, ...]:
        """Documented inputs of the architecture itself."""
        return STREAM_INPUTS

    def build(self) -> TwoStreams:
        """The backbone."""
        return TwoStreams(self)


class _Embeddings(Embeddings):
    """Also the first state of a token that is to be predicted."""

    def __init__(self, config: Embeddings.Config) -> None:
        super().__init__(config)
        self.hidden = nn.Parameter(torch.zeros(1, 1, config.hidden_size))


class TwoStreams(CheckpointsLayers):
    """The stream of contents, and where tokens are to be predicted, that of queries, which do not see themselves.

    Source: https://arxiv.org/abs/1906.08237.
    """

    def __init__(self, plan: TwoStreamsPlan) -> None:
        super().__init__()
        self.plan = plan
        self.pack = True
        self.embeddings = _Embeddings(plan.embeddings)
        self.layers = nn.ModuleList(layer.build() for layer in plan.layers)
        self.dropout = Dropout(plan.dropout)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mems: Sequence[Tensor] | None = None,
        perm_mask: Tensor | None = None,
        target_mapping: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        input_mask: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        use_mems: bool | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        **unknown: Any,
    ) -> ModelOutput:
        """One pass.

        Args:
            input_ids: (batch, length) token ids; or `inputs_embeds`: (batch, length, hidden).
            attention_mask: (batch, length), nonzero at real tokens; or `input_mask`, nonzero at padding. With mems
                it may be that of the earlier tokens too: (batch, earlier + length).
            mems: per layer (earlier, batch, hidden), as an earlier pass gave them.
            perm_mask: (batch, length, length), nonzero where the first token must not see the second.
            target_mapping: (batch, predictions, length), one at the token that each prediction is for.
            token_type_ids: (batch, length).
            head_mask: (heads,) or (layers, heads), factors on attention weights.
            use_mems: whether to return `mems`. Requested in this way (or given), they hold states of padding too;
                else these may be zero.

        Raises:
            ValueError: neither or both of ids and vectors, or of the masks; an unknown input; shapes that do not fit.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if strangers := sorted(name for name, tensor in unknown.items() if tensor is not None):
            raise ValueError(f"unknown input {strangers[0]!r}; this architecture takes no such tensor")
        if attention_mask is not None and input_mask is not None:
            raise ValueError("give attention_mask or input_mask, not both")
        given = input_ids if input_ids is not None else inputs_embeds
        assert given is not None
        batch, length = given.shape[:2]
        if input_mask is not None:
            attention_mask = input_mask == 0
        earlier = len(mems[0]) if mems else 0
        before: Tensor | None = None
        if attention_mask is not None and attention_mask.shape[-1] == earlier + length:
            before, attention_mask = attention_mask[:, :earlier].bool(), attention_mask[:, earlier:]
        check_mask(attention_mask, (batch, length))
        if self.plan.halves and batch % 2:
            raise ValueError(f"bi_data needs batches of an even number of texts, not of {batch}")
        keep = self.plan.keeps_by_default[self.training] if use_mems is None else use_mems
        kept = None if mems is None else [states.transpose(0, 1) for states in mems]

        layout = Layout.padded(batch, length, attention_mask)
        touched = (mems, perm_mask, target_mapping, head_mask, use_mems or None)
        if self.pack and not output_attentions and all(x is None for x in touched) and self._packs_here():
            layout = layout.without_padding()
        h = self.embeddings(
            None if input_ids is None else layout.pack(input_ids),
            None if inputs_embeds is None else layout.pack(inputs_embeds),
            given,
            None,
            {},
        )
        seen = self._seen(layout.mask, perm_mask, before, length, earlier, given.device)
        ctx = StreamContext(
            layout=layout,
            positions=given,
            attentions=[] if output_attentions else None,
            distances=self._distances(length, earlier, h),
            segments=None
            if token_type_ids is None
            else torch.cat((token_type_ids.new_zeros(batch, earlier), token_type_ids), 1),
            look=None if seen is None else seen | _itself(length, earlier, seen.device),
            causal=self.plan.causal,
        )
        g, queries = None, ctx
        if target_mapping is not None:
            mapping = target_mapping.to(h.dtype)
            g = self.embeddings.dropout(self.embeddings.hidden.expand(batch, mapping.shape[1], -1))
            queries = replace(ctx, look=seen, mapping=mapping, attentions=[] if output_attentions else None)

        states, new_mems = [h] if g is None else [h, g], []
        for number, layer in enumerate(self.layers):
            if keep:
                new_mems.append(self._keep(layout.pad(h), None if kept is None else kept[number]))
            ctx.kept = queries.kept = None if kept is None else kept[number]
            ctx.head_mask = queries.head_mask = (
                head_mask if head_mask is None or head_mask.dim() == 1 else head_mask[number]
            )
            queries.source = None
            after = self._through(layer, h, ctx)
            if g is not None:
                queries.source = h
                g = self._through(layer, g, queries)
            h = after
            states += [h] if g is None else [h, g]
        return ModelOutput.of(
            last_hidden_state=self.dropout(layout.pad(h) if g is None else g),
            mems=tuple(new_mems) if keep else None,
            hidden_states=tuple(map(layout.pad, states)) if output_hidden_states else None,
            attentions=_attentions(ctx, queries),
        )

    def _packs_here(self) -> bool:
        alike = self.plan.same_length
        return not alike and not torch.compiler.is_compiling() and self.embeddings.tokens.weight.device.type == "cpu"

    def _distances(self, length: int, earlier: int, like: Tensor) -> tuple[Tensor, ...]:
        """Vectors of the distances from earlier + length - 1 down to 1 - length, once or for both directions."""
        distance = torch.arange(earlier + length - 1, -length, -1, device=like.device)
        if self.plan.max_distance is not None:
            distance = distance.clamp(-self.plan.max_distance, self.plan.max_distance)
        directions = (distance, -distance) if self.plan.halves else (distance,)
        size = self.plan.hidden_size
        return tuple(self.dropout(SinesThenCosines.sinusoids(one, size).to(like.dtype)) for one in directions)

    def _seen(
        self,
        real: Tensor | None,
        hidden: Tensor | None,
        before: Tensor | None,
        length: int,
        earlier: int,
        device: torch.device,
    ) -> Tensor | None:
        """(batch or 1, 1, queries or 1, keys) bool of what queries may see; None if everything.

        `before`: (batch, earlier) bool, which of the earlier tokens are real; None if all.
        """
        seen = None
        if real is not None:
            seen = real[:, None, None, :]
        if hidden is not None:
            open_places = (hidden == 0)[:, None]
            seen = open_places if seen is None else seen & open_places
        if seen is not None and earlier:
            known = seen.new_ones(1, earlier) if before is None else before
            seen = torch.cat((known[:, None, None].expand(*seen.shape[:3], earlier), seen), -1)
        if self.plan.causal:
            past = torch.ones(length, earlier + length, dtype=torch.bool, device=device).tril(earlier)
            if self.plan.same_length:
                past[:, :length] &= torch.ones(length, length, dtype=torch.bool, device=device).triu()
            seen = past[None, None] if seen is None else seen & past
        return seen

    def _keep(self, states: Tensor, before: Tensor | None) -> Tensor:
        """(batch, length, hidden) states after those kept before -> (kept, batch, hidden), without history."""
        states = states[:, : self.plan.reuses or None]
        if before is not None:
            states = torch.cat((before, states), 1)
        return states[:, -(self.plan.keeps or 0) :].transpose(0, 1).detach()


def _itself(length: int, earlier: int, device: torch.device) -> Tensor:
    """(queries, keys) bool: contents always see themselves."""
    return torch.eye(earlier + length, dtype=torch.bool, device=device)[earlier:]


def _attentions(contents: Context, queries: Context) -> tuple[Any, ...] | None:
    """Weights per layer, of both streams where there are two."""
    if contents.attentions is None or queries.attentions is None:
        return None
    if contents is queries:
        return tuple(contents.attentions)
    return tuple(zip(contents.attentions, queries.attentions, strict=True))
