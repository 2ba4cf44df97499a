"""A stack of layers: an encoder, or a decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models.layers.build import Part, Sized
from eir_seq.models.layers.cache import Cache
from eir_seq.models.layers.checkpointing import CheckpointsLayers
from eir_seq.models.layers.context import Bias, Context
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.embeddings import EmbeddingsPlan
from eir_seq.models.layers.layout import Layout
from eir_seq.models.layers.linear import Linear
from eir_seq.models.output import ModelOutput


@dataclass(frozen=True, kw_only=True)
class StackPlan:
    """A bill of materials.

    `schedule`: numbers of the layers in the order in which they run, where some run more than once (shared weights).
    `score_bias`: one bias on the scores of all layers. `position_table`: makes the rows by which all mixers tell
    positions (see `Context`). `norms_last_state`: `hidden_states` ends with the state after `final_norm`, not with
    the one before it. `lists_embeddings`: it begins with the embeddings; else with the state after the first layer,
    and the state after `final_norm` comes last, besides the one before it.
    `pooler`: makes `pooler_output` of the states.
    `cached`: the stack can continue from cached keys and values. `features`: transformers' inputs that mixers read.
    `packable`: whether padding may be left out; `packs_right_padding_only`: only where all of it follows the texts;
    `packs_inner_padding`: also where masked tokens are between real ones, which no layer may then count.
    `embeds_padding`: not of the embeddings, where tokens see neighbours.
    `blanks_padding`: states at padding, where it stays in, begin as zeros.
    `output_router_logits`: whether the scores of routers are returned where a call does not say; None: there are none.
    """

    embeddings: EmbeddingsPlan
    layers: tuple[Part, ...]
    schedule: tuple[int, ...] | None = None
    final_norm: Sized | None = None
    final_dropout: float = 0.0
    score_bias: Part | None = None
    position_table: Part | None = None
    norms_last_state: bool = True
    lists_embeddings: bool = True
    pooler: Part | None = None
    cached: bool = False
    features: tuple[str, ...] = ()
    packable: bool = True
    packs_right_padding_only: bool = False
    packs_inner_padding: bool = False
    blanks_padding: bool = False
    embeds_padding: bool = False
    output_router_logits: bool | None = None

    @property
    def hidden_size(self) -> int:
        """Width of the states."""
        return self.embeddings.hidden_size

    @property
    def inputs(self) -> tuple[str, ...]:
        """Documented inputs of the architecture itself."""
        return (*self.features, *self.embeddings.features)

    def build(self) -> Stack:
        """The stack."""
        return Stack(self)


class FirstTokenPooler(nn.Module):
    """tanh(W h + b) of the first token's state (bert)."""

    @dataclass(frozen=True)
    class Config:
        """`hidden_size`: width of the states."""

        hidden_size: int

        def build(self) -> FirstTokenPooler:
            """The pooler."""
            return FirstTokenPooler(self.hidden_size)

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """States of `layout` -> (batch, hidden)."""
        return torch.tanh(self.dense(layout.first(x)))


class Stack(CheckpointsLayers):
    """Embeddings, layers, final norm, pooler. With `pack`, padding is left out of the computation where that helps.

    `packs_for_kernel`: that is so on other devices than a CPU too, because a kernel of attention knows no masks.
    """

    packs_for_kernel = False
    calls_layers = True
    """Whether it computes a layer by calling it, as training in shards requires, and not by calling its parts."""

    def __init__(self, plan: StackPlan) -> None:
        super().__init__()
        self.plan = plan
        self._pack = plan.packable
        self.embeddings: Any = plan.embeddings.build()
        self.schedule = plan.schedule or tuple(range(len(plan.layers)))
        self.layers = nn.ModuleList(layer.build() for layer in plan.layers)
        self.score_bias = plan.score_bias.build() if plan.score_bias else None
        self.position_table = plan.position_table.build() if plan.position_table else None
        self.final_norm = plan.final_norm.build(plan.embeddings.hidden_size) if plan.final_norm else None
        self.final_dropout = Dropout(plan.final_dropout)
        self.pooler = plan.pooler.build() if plan.pooler else None

    @property
    def pack(self) -> bool:
        """Whether padding is left out of the computation; it stays in where the plan cannot be packed."""
        return self._pack

    @pack.setter
    def pack(self, pack: bool) -> None:
        self._pack = pack and self.plan.packable

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        head_mask: Tensor | None = None,
        cross_attn_head_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        output_router_logits: bool | None = None,
        return_dict: bool | None = None,
        **features: Tensor,
    ) -> ModelOutput:
        """One pass.

        Args:
            input_ids: (batch, length) token ids; or `inputs_embeds`: (batch, length, hidden).
            attention_mask: (batch, length), nonzero at real tokens; with a cache, of the cached tokens too.
            token_type_ids, position_ids: (batch, length).
            head_mask, cross_attn_head_mask: (heads,) or (layers, heads), factors on attention weights.
            encoder_hidden_states: (batch, source, memory size) for cross-attention, with their mask.
            output_router_logits: whether the scores of routers are returned; by default as the plan says.
            past_key_values: cache of an earlier pass; `use_cache` starts one, but not while layers are checkpointed.
            return_dict: None or True: a part of a model gives no tuples.
            features: transformers' inputs of the architecture itself.

        Raises:
            ValueError: neither or both of ids and vectors, an unknown input, a mask of another shape.
        """
        if return_dict is False:
            raise ValueError("return_dict=False: one side of a model gives a ModelOutput; call its to_tuple()")
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        features = {name: tensor for name, tensor in features.items() if tensor is not None}
        if unknown := set(features) - set(self.plan.inputs):
            raise ValueError(f"unknown input {sorted(unknown)[0]!r}; this architecture takes no such tensor")
        given = input_ids if input_ids is not None else inputs_embeds
        assert given is not None
        shape, device = (given.shape[0], given.shape[1]), given.device
        cache = past_key_values
        if cache is None and use_cache and self.plan.cached and not self.checkpoints_now():
            cache = Cache()
        start = 0 if cache is None else cache.length
        check_mask(attention_mask, (shape[0], start + shape[1]))

        layout = Layout.padded(*shape, None if attention_mask is None else attention_mask[:, start:])
        memory, memory_layout = encoder_hidden_states, None
        if memory is not None:
            if all(getattr(layer, "cross", None) is None for layer in self.layers):
                raise ValueError("encoder_hidden_states: no layer of this model attends to another side")
            memory = memory.to(self.embeddings.tokens.weight.dtype)
            memory_layout = Layout.padded(memory.shape[0], memory.shape[1], encoder_attention_mask)
        keys = None if attention_mask is None else attention_mask.bool()
        packs = self._packs(cache, device, head_mask, cross_attn_head_mask, output_attentions)
        if packs and (not self.plan.packs_right_padding_only or layout.right_padded):
            layout = layout.without_padding(inner_padding=self.plan.packs_inner_padding)
            keys = None if layout.mask is None and not start else keys  # kernels are faster without a mask
            if memory_layout is not None:
                memory_layout = self._packed_memory(memory_layout, device, packs=layout.packed)
        if position_ids is None:
            position_ids = self.embeddings.numbering(shape, input_ids, attention_mask, start, device)
        positions = layout.pack(position_ids.expand(shape))
        ctx = Context(
            layout=layout,
            positions=positions,
            keys=keys,
            cache=cache,
            memory=None if memory_layout is None else memory_layout.pack(memory),  # type: ignore[arg-type]
            memory_layout=memory_layout,
            bias=self._shared_bias(start, shape[1]),
            position_table=None if self.position_table is None else self.position_table(),
            features=features,
            embeddings=self.embeddings,
            attentions=[] if output_attentions else None,
            cross_attentions=[] if output_attentions and memory is not None else None,
            global_attentions=[] if output_attentions else None,
            router_logits=[] if self._routes(output_router_logits) else None,
        )
        own = {name: x for name, x in features.items() if name in self.plan.embeddings.features}
        if self.plan.embeds_padding:
            x = self.embeddings(input_ids, inputs_embeds, position_ids.expand(shape), token_type_ids, own)
            x = layout.pack(x)
        else:
            x = self.embeddings(
                None if input_ids is None else layout.pack(input_ids),
                None if inputs_embeds is None else layout.pack(inputs_embeds),
                positions,
                None if token_type_ids is None else layout.pack(token_type_ids),
                {name: layout.pack(x) for name, x in own.items()},
            )
        if self.plan.blanks_padding and layout.mask is not None and not layout.packed:
            x = x * layout.mask[..., None]

        def select(number: int) -> None:
            ctx.head_mask, ctx.cross_head_mask = (
                _layer_mask(head_mask, number),
                _layer_mask(cross_attn_head_mask, number),
            )

        x, states = self._run(x, ctx, select)
        x = self.final_dropout(x if self.final_norm is None else self.final_norm(x))
        if not self.plan.lists_embeddings:
            states = [*states[1:], x]
        elif self.plan.norms_last_state:
            states[-1] = x
        if cache is not None:
            cache.length = start + shape[1]
        return ModelOutput.of(
            last_hidden_state=layout.pad(x),
            pooler_output=None if self.pooler is None else self.pooler(x, layout),
            past_key_values=cache,
            hidden_states=tuple(layout.pad(state) for state in states) if output_hidden_states else None,
            attentions=None if ctx.attentions is None else tuple(ctx.attentions),
            cross_attentions=None if ctx.cross_attentions is None else tuple(ctx.cross_attentions),
            global_attentions=tuple(ctx.global_attentions) if ctx.global_attentions else None,
            router_logits=None if ctx.router_logits is None else tuple(map(layout.pad, ctx.router_logits)),
        )

    @property
    def continues_texts(self) -> bool:
        """Whether `first_states` and `through_layers` are what `forward` does with a cache and a token per text."""
        return type(self).forward is Stack.forward

    def first_states(self, ids: Tensor, ctx: Context) -> Tensor:
        """The states (rows, 1, hidden) of one more token per text (rows, 1) that the layers begin with.

        `ctx`: of this token, with the bias of `bias_of_last`. Nothing is checked, packed or masked.
        """
        ctx.embeddings = self.embeddings
        ctx.position_table = None if self.position_table is None else self.position_table()
        first: Tensor = self.embeddings(ids, None, ctx.positions, None, {})
        return first

    def through_layers(self, x: Any, ctx: Context, call: Callable[..., Any]) -> Any:
        """The states after all layers and the norm that follows them; `call(layer, x, ctx)` stands for a layer's."""
        for place in self.schedule:
            x = call(self.layers[place], x, ctx)
        return x if self.final_norm is None else call(self.final_norm, x)

    def _run(self, x: Tensor, ctx: Context, select: Callable[[int], None]) -> tuple[Tensor, list[Tensor]]:
        """The first states -> those after all layers, and all of them; `select` each layer by its number."""
        states = [x]
        for number, place in enumerate(self.schedule):
            select(number)
            x = self._through(self.layers[place], x, ctx)
            states.append(x)
        return x, states

    def _routes(self, wanted: bool | None) -> bool:
        default = self.plan.output_router_logits
        if wanted and default is None:
            raise ValueError("output_router_logits: this architecture has no routers")
        return bool(default if wanted is None else wanted)

    def _packs(self, cache: Cache | None, device: torch.device, *weights_touched: object) -> bool:
        return (
            self.pack
            and cache is None
            and not any(wanted is not None and wanted is not False for wanted in weights_touched)
            and not torch.compiler.is_compiling()
            and (device.type == "cpu" or self.packs_for_kernel)
        )

    @staticmethod
    def _packed_memory(memory: Layout, device: torch.device, *, packs: bool) -> Layout:
        """The memory's layout for queries that are packed or not: without a mask where that says nothing."""
        if not packs:
            return Layout(memory.batch, memory.length) if memory.mask is None or bool(memory.mask.all()) else memory
        full = memory.mask if memory.mask is not None else torch.ones(memory.batch, memory.length, device=device).bool()
        index = full.flatten().nonzero().squeeze(1)
        return Layout(memory.batch, memory.length, full, index, tuple(full.sum(1).tolist()))

    def _shared_bias(self, start: int, length: int) -> Bias | None:
        if self.score_bias is None:
            return None
        bias: Bias = self.score_bias.by_distance(start + length)  # type: ignore[operator]
        return bias

    def bias_of_last(self, keys: int) -> Tensor:
        """(1, heads, 1, keys) what `score_bias` adds at the last of so many tokens."""
        assert self.score_bias is not None
        query = torch.empty(1, 1, 1, 1, device=self.embeddings.tokens.weight.device)
        bias: Tensor = self.score_bias(query, query.new_empty(1, 1, keys, 1))
        return bias


def check_mask(mask: Tensor | None, shape: tuple[int, int]) -> None:
    """Raises ValueError where an attention mask is not (batch, length)."""
    if mask is not None and tuple(mask.shape) != shape:
        raise ValueError(f"attention_mask has shape {tuple(mask.shape)}, but the tokens (cached ones included) {shape}")


def _layer_mask(mask: Tensor | None, layer: int) -> Tensor | None:
    return mask if mask is None or mask.dim() == 1 else mask[layer]
