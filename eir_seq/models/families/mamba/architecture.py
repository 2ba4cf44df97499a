"""Mamba (https://arxiv.org/abs/2312.00752)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.recurrent import RecurrentStack
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.mamba.options import MambaConfig
from eir_seq.models.families.mamba.selective_scan import selective_scan
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.build import Sized
from eir_seq.models.layers.cache import Cache
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.activations import activation
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.rms_norm import RMSNorm
from eir_seq.models.layers.precision import at_least_float32
from eir_seq.models.output import ModelOutput


class SelectiveStateSpace(nn.Module):
    """A convolution over the last few tokens, then states whose time step, writing and reading depend on the token.

    Each inner channel has `state_size` numbers that fade at learned rates; a gate decides what leaves the mixer.
    Padding counts as zeros in front of the convolution and behind it.
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
        x, gate = self.entry(x).chunk(2, -1)
        x = ctx.layout.pad(x)
        window, state = self._begin(x, ctx.cache)
        window = torch.cat((window, _blanked(x, ctx)), 1)
        x = self.activation(self.convolution(window.transpose(1, 2)).transpose(1, 2))
        x = _blanked(x, ctx)
        step, write, read = self.selection(x).split(self.sizes, -1)
        y, state = selective_scan(
            at_least_float32(x),
            F.softplus(at_least_float32(self.step(step))),
            -at_least_float32(self.log_rates).exp().t(),
            at_least_float32(write),
            at_least_float32(read),
            state,
        )
        if ctx.cache is not None:
            ctx.cache.keep_state(self, window[:, x.shape[1] :], state)
        y = y.to(x.dtype) + x * self.skip
        return self.out(ctx.layout.pack(y) * self.activation(gate))

    def _begin(self, x: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor]:
        """The tokens in front of the convolution, (batch, kernel - 1, inner), and the state, (batch, size, inner)."""
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
    """A mixer alone, with a norm in front; the residual stream is in float32 where `wide`."""

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


@dataclass(frozen=True, kw_only=True)
class MambaPlan(StackPlan):
    """A stack whose cache has a documented name of its own."""

    def build(self) -> MambaStack:
        """The stack."""
        return MambaStack(self)


class MambaStack(RecurrentStack):
    """A stack that takes and returns its cache as `cache_params` too."""

    def forward(self, *args: Any, **inputs: Any) -> ModelOutput:
        """See `Stack.forward`; `cache_params` is another name of `past_key_values`.

        Raises:
            ValueError: both of them are given; else as there.
        """
        if (cache_params := inputs.pop("cache_params", None)) is not None:
            if inputs.get("past_key_values") is not None:
                raise ValueError("give one of cache_params and past_key_values: they are one cache")
            inputs["past_key_values"] = cache_params
        output = super().forward(*args, **inputs)
        return ModelOutput.of(**output, cache_params=output.past_key_values)


def mamba_plan(c: MambaConfig) -> MambaPlan:
    """A token table, layers of one mixer each, a final norm."""
    norm = NarrowingNorm.Config(eps=c.layer_norm_epsilon)
    layer = MixerLayer.Config(
        hidden_size=c.hidden_size, norm=norm, mixer=SelectiveStateSpace.Config(c), wide=c.residual_in_fp32
    )
    return MambaPlan(
        embeddings=Embeddings.Config(vocab_size=c.vocab_size, hidden_size=c.hidden_size),
        layers=(layer,) * c.num_hidden_layers,
        final_norm=norm,
        cached=c.use_cache,
        lists_embeddings=False,
    )


LAYER, OURS = "layers.{i}.", "layers.{i}."


def mamba_rows(c: MambaConfig) -> Iterator[Row]:
    """The key table of the body."""
    yield Same("embeddings", "embeddings.tokens")
    yield Same("embedding", "embeddings.tokens")  # in old files
    yield from for_layers(
        c.num_hidden_layers,
        Same(LAYER + "norm", OURS + "mixer_norm"),
        Same(LAYER + "mixer.in_proj", OURS + "mixer.entry"),
        Same(LAYER + "mixer.conv1d", OURS + "mixer.convolution"),
        Same(LAYER + "mixer.x_proj", OURS + "mixer.selection"),
        Same(LAYER + "mixer.dt_proj", OURS + "mixer.step"),
        Same(LAYER + "mixer.A_log", OURS + "mixer.log_rates"),
        Same(LAYER + "mixer.D", OURS + "mixer.skip"),
        Same(LAYER + "mixer.out_proj", OURS + "mixer.out"),
    )
    yield Same("norm_f", "final_norm")


@dataclass(frozen=True, kw_only=True)
class MambaInitialization(Initialization):
    """Rates 1, 2, 3 ... for the numbers of a channel, time steps drawn evenly on a logarithmic scale."""

    options: MambaConfig

    def _set(self, module: nn.Module, name: str, parameter: Tensor) -> None:
        c = self.options
        if name.endswith("mixer.log_rates"):
            parameter.copy_(torch.arange(1, c.state_size + 1).log().expand_as(parameter))
        elif name.endswith("mixer.skip"):
            parameter.fill_(1.0)
        elif name.endswith("mixer.step.weight"):
            largest = c.rank**-0.5 * c.time_step_scale
            if c.time_step_init_scheme == "constant":
                parameter.fill_(largest)
            else:
                parameter.uniform_(-largest, largest)
        elif name.endswith("mixer.step.bias"):
            low, high = math.log(c.time_step_min), math.log(c.time_step_max)
            steps = torch.empty_like(parameter).uniform_(low, high).exp().clamp(min=c.time_step_floor)
            parameter.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus gives the steps back
        elif name.endswith(("mixer.convolution.weight", "mixer.out.weight")):
            bound = parameter[0].numel() ** -0.5
            if c.rescale_prenorm_residual and name.endswith("out.weight"):
                bound /= c.num_hidden_layers**0.5
            parameter.uniform_(-bound, bound)
        else:
            super()._set(module, name, parameter)


def _language_model(c: MambaConfig) -> LanguageModel.Config:
    return LanguageModel.Config(
        predicts="next", hidden_size=c.hidden_size, vocab_size=c.vocab_size, tied=c.tie_word_embeddings
    )


MAMBA = Architecture(
    tasks=declare_tasks(
        "Mamba",
        "backbone",
        mamba_plan,
        mamba_rows,
        {"causal-lm": TaskHead("ForCausalLM", _language_model, (Same("lm_head", "out"),))},
    ),
    prefixes=("backbone",),
    initialization=lambda c: MambaInitialization(std=c.initializer_range, options=c),
)
