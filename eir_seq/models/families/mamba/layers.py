"""The layers of mamba: selective state spaces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.families.mamba.options import MambaConfig
from eir_seq.models.families.mamba.selective_scan import selective_scan
from eir_seq.models.layers.build import Sized
from eir_seq.models.layers.cache import Cache
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.feed_forward.activations import activation
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.rms_norm import RMSNorm
from eir_seq.models.layers.precision import at_least_float32
from eir_seq.models.layers.recurrence.linear_recurrence import apart
from eir_seq.models.layers.recurrence.one_token import one_token
from eir_seq.native import recurrences as native

CALLS = 2**19
"""Numbers of states that are computed in the time that the calls for a text take."""


class SelectiveStateSpace(nn.Module):
    """A convolution over the last few tokens, then states whose time step, writing and reading depend on the token.

    Each inner channel has `state_size` numbers that fade at learned rates; a gate decides what leaves the mixer.
    Padding counts as zeros before and after the convolution.
    """

    @dataclass(frozen=True)
    class Config:
        """`options`: all of mamba's."""

        options: MambaConfig

        def build(self) -> SelectiveStateSpace:
            """The mixer."""
            return SelectiveStateSpace(self.options)

    def __init__(self, c: MambaConfig) -> None:
        super().__init__()
        self.sizes = (c.rank, c.state_size, c.state_size)
        self.entry = Linear(c.hidden_size, 2 * c.inner_size, bias=c.use_bias)
        self.convolution = nn.Conv1d(
            c.inner_size, c.inner_size, c.conv_kernel, groups=c.inner_size, bias=c.use_conv_bias
        )
        self.selection = Linear(c.inner_size, sum(self.sizes), bias=False)
        self.step = Linear(c.rank, c.inner_size)
        self.log_rates = nn.Parameter(torch.empty(c.inner_size, c.state_size))
        self.skip = nn.Parameter(torch.empty(c.inner_size))
        self.out = Linear(c.inner_size, c.hidden_size, bias=c.use_bias)
        self.activation = activation(c.hidden_act)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        if (kept := one_token(self, ctx)) is not None:
            return self._continue(x, kept, ctx)
        x, gate = self.entry(x).chunk(2, -1)
        x = ctx.layout.pad(x)
        window, state = self._begin(x, ctx.cache)
        window = torch.cat((window, _blanked(x, ctx)), 1)
        x = self.activation(self.convolution(window.transpose(1, 2)).transpose(1, 2))
        calls = 0 if native.serves(x, states=self.sizes[-1]) else CALLS
        one_by_one = ctx.cache is None and apart(ctx.layout, x.shape[-1] * self.sizes[-1], calls)
        x = ctx.layout.pack(x) if one_by_one else _blanked(x, ctx)
        step, write, read = self.selection(x).split(self.sizes, -1)
        given = x, F.softplus(at_least_float32(self.step(step))), write, read
        if one_by_one:
            texts = zip(*(part.split(ctx.layout.lengths) for part in given), strict=True)
            y = torch.cat([self._scan((a[None], b[None], c[None], d[None]), state[:1])[0][0] for a, b, c, d in texts])
        else:
            y, state = self._scan(given, state)
        if ctx.cache is not None:
            ctx.cache.keep_state(self, window[:, x.shape[1] :], state)
        y = y.to(x.dtype) + x * self.skip
        return self.out((y if one_by_one else ctx.layout.pack(y)) * self.activation(gate))

    def _scan(self, given: tuple[Tensor, Tensor, Tensor, Tensor], start: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs, steps, what is written and read, (batch, length, ...), and the state before: see `selective_scan`."""
        x, step, write, read = (at_least_float32(part) for part in given)
        return selective_scan(x, step, -at_least_float32(self.log_rates).exp().t(), write, read, start)

    def _continue(self, x: Tensor, kept: tuple[Tensor, ...], ctx: Context) -> Tensor:
        """The same for one token per text, (batch, 1, hidden), after those of the cache."""
        assert ctx.cache is not None
        window, state = kept
        rates, kernel = ctx.of_weights((self, "constants"), self._constants)
        x, gate = self.entry(x).chunk(2, -1)
        window = torch.cat((window, x), 1)
        x = (window * kernel).sum(1, keepdim=True)
        x = self.activation(x if self.convolution.bias is None else x + self.convolution.bias)
        step, write, read = self.selection(x).split(self.sizes, -1)
        wide = at_least_float32(x)
        pace = F.softplus(at_least_float32(self.step(step)))
        state = torch.addcmul(state * (pace * rates).exp_(), at_least_float32(write).mT, pace * wide)
        ctx.cache.replace_state(self, window[:, 1:], state)
        y = (at_least_float32(read) @ state).to(x.dtype)
        return self.out(torch.addcmul(y, x, self.skip) * self.activation(gate))

    def _constants(self) -> tuple[Tensor, Tensor]:
        """Rates (size, inner), and the convolution's weights (kernel, inner)."""
        return -at_least_float32(self.log_rates).exp().t().contiguous(), self.convolution.weight[:, 0].t().contiguous()

    def _begin(self, x: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor]:
        """The tokens before the convolution, (batch, kernel - 1, inner), and the state, (batch, size, inner)."""
        kept = None if cache is None else cache.state(self)
        if kept is not None:
            return kept[0], kept[1]
        batch, _, inner = x.shape
        start = at_least_float32(x.new_zeros(batch, self.sizes[-1], inner))
        return x.new_zeros(batch, self.convolution.kernel_size[0] - 1, inner), start


def _blanked(x: Tensor, ctx: Context) -> Tensor:
    """Padded states (batch, length, ...) with zeros at padding."""
    return x if ctx.layout.mask is None else x * ctx.layout.mask[..., None]


class NarrowingNorm(RMSNorm):
    """A root-mean-square norm of states in float32 that gives them in the precision of its weight."""

    @dataclass(frozen=True, kw_only=True)
    class Config(RMSNorm.Config):
        """See `RMSNorm.Config`."""

        def build(self, size: int) -> NarrowingNorm:
            """A norm of states of width `size`."""
            return NarrowingNorm(size, self.eps)

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        return super().forward(x).to(self.weight.dtype)


class MixerLayer(nn.Module):
    """A mixer alone, after a norm; the residual stream is in float32 where `wide`."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`wide`: the residual stream is in float32 even where weights are narrower."""

        hidden_size: int
        norm: Sized
        mixer: SelectiveStateSpace.Config
        wide: bool

        def build(self) -> MixerLayer:
            """The layer."""
            return MixerLayer(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.mixer = config.mixer.build()
        self.mixer_norm = config.norm.build(config.hidden_size)
        self.wide = config.wide

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        return (at_least_float32(x) if self.wide else x) + self.mixer(self.mixer_norm(x), ctx)
