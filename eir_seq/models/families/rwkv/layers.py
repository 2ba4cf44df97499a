"""The layers of rwkv: time mixing and channel mixing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.families.rwkv.options import RwkvConfig
from eir_seq.models.families.rwkv.wkv import wkv, wkv_of_next
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.precision import at_least_float32
from eir_seq.models.layers.recurrence.linear_recurrence import apart
from eir_seq.models.layers.recurrence.one_token import one_token
from eir_seq.models.layers.residual import Layer, LayerPlan
from eir_seq.native import recurrences as native

CALLS = 2**15
"""Numbers of keys that are computed in the time that the calls for a text take."""
NEVER = -1e38
"""The greatest logarithm of a weight before the first token."""


def shares(hidden_size: int) -> nn.Parameter:
    """Per channel, how much of a token and how little of the one before it is read."""
    return nn.Parameter(torch.empty(1, 1, hidden_size))


def mixed(before: Tensor, x: Tensor, share: nn.Parameter) -> Tensor:
    """What is read of each token and of the one before it, states of any layout."""
    return torch.lerp(before, x, share[0, 0])


def in_front(x: Tensor, last: Tensor | None, ctx: Context) -> tuple[Tensor, Tensor]:
    """What `x` is at the token before each, in the layout of the context, and at the last token, (batch, hidden).

    Zeros precede a text; `last`: what is there instead, (batch, hidden). Packed texts have no last token: nothing goes
    on from them.
    """
    if ctx.layout.packed and ctx.cache is None:
        begins = ctx.once("begins of texts", lambda: _begins(ctx.layout.lengths, x.device))
        return F.pad(x[:-1], (0, 0, 1, 0)).index_fill(0, begins, 0), x
    x = ctx.layout.pad(x)
    if ctx.layout.mask is not None:
        x = x * ctx.layout.mask[..., None]
    before = torch.cat((torch.zeros_like(x[:, :1]) if last is None else last[:, None], x[:, :-1]), 1)
    return ctx.layout.pack(before), x[:, -1]


def _squared(x: Tensor) -> Tensor:
    """The squares of what nothing else holds."""
    return x.square() if torch.is_grad_enabled() else x.mul_(x)


def _begins(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """The first token of each packed text that has one."""
    ends = torch.tensor(lengths).cumsum(0)
    return (ends - torch.tensor(lengths))[torch.tensor(lengths) > 0].to(device)


class TimeMixing(nn.Module):
    """A gated average of the values of all earlier tokens, weighted by exp(key) and by their age."""

    @dataclass(frozen=True)
    class Config:
        """`options`: all of rwkv's."""

        options: RwkvConfig

        def build(self) -> TimeMixing:
            """The mixer."""
            return TimeMixing(self.options)

    def __init__(self, c: RwkvConfig) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.empty(c.mixing_size))
        self.bonus = nn.Parameter(torch.empty(c.mixing_size))
        self.key_share, self.value_share, self.gate_share = (shares(c.hidden_size) for _ in range(3))
        self.key = Linear(c.hidden_size, c.mixing_size, bias=False)
        self.value = Linear(c.hidden_size, c.mixing_size, bias=False)
        self.gate = Linear(c.hidden_size, c.mixing_size, bias=False)
        self.out = Linear(c.mixing_size, c.hidden_size, bias=False)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        if (state := one_token(self, ctx)) is not None:
            return self._continue(x, state, ctx)
        kept = None if ctx.cache is None else ctx.cache.state(self)
        before, last = in_front(x, None if kept is None else kept[0], ctx)
        key = at_least_float32(self.key(mixed(before, x, self.key_share)))
        value = self.value(mixed(before, x, self.value_share))
        gate = torch.sigmoid(self.gate(mixed(before, x, self.gate_share)))
        rate, bonus = at_least_float32(self.decay).exp(), at_least_float32(self.bonus)
        wide = at_least_float32(value)
        calls = 0 if native.serves(key, wide, rate, bonus) else CALLS
        one_by_one = ctx.cache is None and apart(ctx.layout, key.shape[-1], calls)
        key, wide = (key, wide) if one_by_one else (ctx.layout.pad(key), ctx.layout.pad(wide))
        nothing = key.new_zeros(1 if one_by_one else key.shape[0], key.shape[-1])
        sums = (nothing, nothing, nothing + NEVER) if kept is None else (kept[1], kept[2], kept[3])
        if one_by_one:
            texts = zip(key.split(ctx.layout.lengths), wide.split(ctx.layout.lengths), strict=True)
            average = torch.cat([wkv(k[None], v[None], rate, bonus, sums)[0][0] for k, v in texts if len(k)])
        else:
            if ctx.layout.mask is not None:
                key = key.masked_fill(~ctx.layout.mask[..., None], NEVER)
            average, sums = wkv(key, wide, rate, bonus, sums)
            average = ctx.layout.pack(average)
        if ctx.cache is not None:
            ctx.cache.keep_state(self, last, *sums)
        return self.out(gate * average.to(value.dtype))

    def _continue(self, x: Tensor, kept: tuple[Tensor, ...], ctx: Context) -> Tensor:
        """The same for one token per text, (batch, 1, hidden), after those of the cache."""
        assert ctx.cache is not None
        before, above, below, top = kept
        shares, rate = ctx.of_weights((self, "constants"), self._constants)
        parts = torch.lerp(before[:, None], x, shares)  # (batch, 3, hidden)
        key, value, gate = (layer(part[:, None]) for layer, part in zip(self._entries, parts.unbind(1), strict=True))
        wide = at_least_float32(key[:, 0]), at_least_float32(value[:, 0])
        average, sums = wkv_of_next(*wide, rate, at_least_float32(self.bonus), (above, below, top))
        ctx.cache.replace_state(self, x[:, 0], *sums)
        return self.out(torch.sigmoid(gate) * average[:, None].to(value.dtype))

    @property
    def _entries(self) -> tuple[Linear, Linear, Linear]:
        return self.key, self.value, self.gate

    def _constants(self) -> tuple[Tensor, Tensor]:
        """Shares (3, hidden) of `_entries`, and rates."""
        shares = torch.cat((self.key_share, self.value_share, self.gate_share), 1)[0]
        return shares, at_least_float32(self.decay).exp()


class ChannelMixing(nn.Module):
    """A gated feed-forward block with squared rectifiers that also reads the preceding token."""

    @dataclass(frozen=True)
    class Config:
        """`options`: all of rwkv's."""

        options: RwkvConfig

        def build(self) -> ChannelMixing:
            """The block."""
            return ChannelMixing(self.options)

    def __init__(self, c: RwkvConfig) -> None:
        super().__init__()
        self.up_share, self.gate_share = shares(c.hidden_size), shares(c.hidden_size)
        self.up = Linear(c.hidden_size, c.inner_size, bias=False)
        self.gate = Linear(c.hidden_size, c.hidden_size, bias=False)
        self.down = Linear(c.inner_size, c.hidden_size, bias=False)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        if (state := one_token(self, ctx)) is not None:
            assert ctx.cache is not None
            shares = ctx.of_weights((self, "shares"), lambda: torch.cat((self.up_share, self.gate_share), 1)[0])
            ctx.cache.replace_state(self, x[:, 0])
            up, gate = torch.lerp(state[0][:, None], x, shares).split(1, 1)
            return torch.sigmoid(self.gate(gate)) * self.down(_squared(torch.relu(self.up(up))))
        kept = None if ctx.cache is None else ctx.cache.state(self)
        before, last = in_front(x, None if kept is None else kept[0], ctx)
        if ctx.cache is not None:
            ctx.cache.keep_state(self, last)
        inner = _squared(torch.relu(self.up(mixed(before, x, self.up_share))))
        return torch.sigmoid(self.gate(mixed(before, x, self.gate_share))) * self.down(inner)


@dataclass(frozen=True, kw_only=True)
class MixingPlan(LayerPlan):
    """`halvings`: how often states are halved in evaluation before this layer; `halves`: once more after it."""

    halvings: int = 0
    halves: bool = False


class MixingLayer(Layer):
    """Time mixing and channel mixing, each after its norm."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__(plan)
        assert isinstance(plan, MixingPlan)
        self.scale, self.halves = 0.5**plan.halvings, plan.halves

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        scale = 1.0 if self.training else self.scale
        added = self.mixer(self.mixer_norm(x), ctx) * scale
        if ctx.attentions is not None:  # there are no weights; transformers has this under that name
            ctx.attentions.append(ctx.layout.pad(added))
        x = x + added
        x = x + self.mlp(self.mlp_norm(x), ctx) * scale
        return x / 2 if self.halves and not self.training else x
