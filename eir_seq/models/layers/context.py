"""What the layers of a backbone share during one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.layers.cache import Cache
from eir_seq.models.layers.layout import Layout

Bias = Callable[[Tensor, Tensor], Tensor]
"""(queries, keys), each (batch, heads, length, head_size) -> what is added to their scores, broadcastable to
(batch, heads, queries, keys)."""


@dataclass
class Context:
    """One forward pass as its layers see it.

    Attributes:
        layout: places of the tokens that are computed.
        positions: their position ids, in that layout.
        keys: (batch, keys) mask of the tokens that may be attended to, cached ones included; None if all are real.
        memory: states of the other side for cross-attention, with their layout.
        bias: added to the scores of every layer (T5).
        position_table: (rows, size) by position or distance, shared by all layers (roformer, deberta).
        features: transformers' inputs of the architecture besides tokens (boxes, global_attention_mask, ...), padded.
        attentions, cross_attentions, global_attentions: lists that layers append their weights to, if wanted.
        router_logits: list that routers of experts append their scores to, in the context's layout, if wanted.
        embeddings: the module that made the first states, for layers that need to know what it knows.
        head_mask: (heads,) factors on the attention weights of the current layer.
    """

    layout: Layout
    positions: Tensor
    keys: Tensor | None = None
    cache: Cache | None = None
    memory: Tensor | None = None
    memory_layout: Layout | None = None
    bias: Bias | None = None
    position_table: Tensor | None = None
    features: dict[str, Tensor] = field(default_factory=dict)
    attentions: list[Tensor] | None = None
    cross_attentions: list[Tensor] | None = None
    global_attentions: list[Tensor] | None = None
    head_mask: Tensor | None = None
    cross_head_mask: Tensor | None = None
    router_logits: list[Tensor] | None = None
    embeddings: Any = None
    _memo: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """`make()`, computed at its first use in this pass and shared by all layers (masks, rotary tables)."""
        key = hashable(key)
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def of_weights(self, key: Any, make: Callable[[], Any]) -> Any:
        """`make()` of weights alone, computed once for as long as they surely stay: by default for this pass."""
        return self.once(key, make)

    def snapshot(self) -> Context:
        """This pass as the next layer finds it, to compute that layer once more: what it lists there is not kept."""
        lists: dict[str, Any] = {name: [] for name in LISTS if getattr(self, name) is not None}
        memo = {key: _snapshot(value) for key, value in self._memo.items()}
        return replace(self, cache=None if self.cache is None else self.cache.snapshot(), _memo=memo, **lists)

    @property
    def longest(self) -> Tensor:
        """A scalar: tokens of the longest text, cached ones included, by the position ids of real tokens."""
        real = None if self.layout.packed else self.layout.mask
        return self.once(
            "longest", lambda: (self.positions if real is None else self.positions.masked_fill(~real, 0)).max() + 1
        )

    def mask(
        self, queries: int, keys: int, *, causal: bool, window: int | None = None, after: int = 0, ahead: int = 0
    ) -> Tensor | None:
        """(batch or 1, 1, queries or 1, keys) bool of who may attend to whom among padded tokens; None if everyone may.

        The keys are the last ones but for `after`, the queries the last of them but for `ahead`; keys before the
        first token that `self.keys` knows are all real (a prefix).
        `window`: a query sees itself and tokens nearer than this, a causal one only those before it.
        A row that may attend to nothing (padding on the left) may attend to itself, so that its weights stay finite.
        """

        def make() -> Tensor | None:
            real = None
            if self.keys is not None and not self.layout.packed:
                real = F.pad(self.keys, (keys + after - self.keys.shape[1], -after), value=True)
            device = self.positions.device
            return look_mask(real, queries, keys, causal=causal, window=window, ahead=ahead, device=device)

        return self.once(("mask", queries, keys, causal, window, after, ahead), make)


LISTS = ("attentions", "cross_attentions", "global_attentions", "router_logits")


class Carried:
    """What a layer hands on to the next one by the context's memo, besides the states: layers set its attributes."""


def _snapshot(value: Any) -> Any:
    if isinstance(value, Context):  # the same pass on another device
        return value.snapshot()
    return copy(value) if isinstance(value, Carried) else value


def hashable(key: Any) -> Any:
    """The same key with sizes that are symbols, as `torch.export` makes dynamic ones, spelled out."""
    if not torch.compiler.is_compiling():
        return key
    if isinstance(key, tuple):
        return tuple(map(hashable, key))
    return str(key) if isinstance(key, torch.SymInt) else key


def look_mask(
    real: Tensor | None,
    queries: int,
    keys: int,
    *,
    causal: bool,
    window: int | None = None,
    ahead: int = 0,
    device: torch.device | None = None,
) -> Tensor | None:
    """See `Context.mask`; `real`: (batch, keys) bool or None."""
    if window is not None and not torch.compiler.is_exporting() and window >= keys:
        window = None
    if not causal and window is None:
        if real is None:
            return None
        look = real[:, None, None, :]
        return look | ~look.any(-1, keepdim=True)
    if causal and real is None and window is None and (queries == keys or queries == 1):
        return None  # one new token sees all; else the kernel's own causal mode serves
    places = torch.arange(keys, device=device)
    own = places[keys - ahead - queries : keys - ahead, None]
    near = places <= own if causal else torch.ones((), dtype=torch.bool, device=device)
    if window is not None:
        near = near & (places > own - window) & (places < own + window)
    if real is None:
        return near[None, None]
    look = near & real[:, None, None, :]
    return look | ((places == own) & ~look.any(-1, keepdim=True))
