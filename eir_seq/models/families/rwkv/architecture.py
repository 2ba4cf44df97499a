"""RWKV, version 4 (https://arxiv.org/abs/2305.13048)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.recurrent import RecurrentStack
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.rwkv.fading_average import fading_average
from eir_seq.models.families.rwkv.options import RwkvConfig
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.cache import Cache
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.precision import at_least_float32
from eir_seq.models.layers.residual import Layer, LayerPlan
from eir_seq.models.output import ModelOutput

NEVER = -1e38
"""The greatest logarithm of a weight in front of the first token."""


def shares(hidden_size: int) -> nn.Parameter:
    """Per channel, how much of a token and how little of the one in front of it is read."""
    return nn.Parameter(torch.empty(1, 1, hidden_size))


def mixed(before: Tensor, x: Tensor, share: nn.Parameter) -> Tensor:
    """What is read of each token and of the one in front of it, states of any layout."""
    return torch.lerp(before, x, share[0, 0])


def in_front(x: Tensor, last: Tensor | None, ctx: Context) -> tuple[Tensor, Tensor]:
    """What `x` is at the token in front of each, in the layout of the context, and at the last token, (batch, hidden).

    Zeros stand in front of a text; `last`: what stands there instead, (batch, hidden).
    """
    x = ctx.layout.pad(x)
    if ctx.layout.mask is not None:
        x = x * ctx.layout.mask[..., None]
    before = torch.cat((torch.zeros_like(x[:, :1]) if last is None else last[:, None], x[:, :-1]), 1)
    return ctx.layout.pack(before), x[:, -1]


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
        kept = None if ctx.cache is None else ctx.cache.state(self)
        before, last = in_front(x, None if kept is None else kept[0], ctx)
        key = ctx.layout.pad(at_least_float32(self.key(mixed(before, x, self.key_share))))
        value = ctx.layout.pad(self.value(mixed(before, x, self.value_share)))
        gate = torch.sigmoid(self.gate(mixed(before, x, self.gate_share)))
        if ctx.layout.mask is not None:
            key = key.masked_fill(~ctx.layout.mask[..., None], NEVER)
        if kept is None:
            nothing = torch.zeros_like(key[:, 0])
            sums = (nothing, nothing, nothing + NEVER)
        else:
            sums = (kept[1], kept[2], kept[3])
        rate = at_least_float32(self.decay).exp()
        average, sums = fading_average(key, at_least_float32(value), rate, at_least_float32(self.bonus), sums)
        if ctx.cache is not None:
            ctx.cache.keep_state(self, last, *sums)
        return self.out(gate * ctx.layout.pack(average).to(value.dtype))


class ChannelMixing(nn.Module):
    """A gated feed-forward block with squared rectifiers that also reads the token in front."""

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
        kept = None if ctx.cache is None else ctx.cache.state(self)
        before, last = in_front(x, None if kept is None else kept[0], ctx)
        if ctx.cache is not None:
            ctx.cache.keep_state(self, last)
        inner = torch.relu(self.up(mixed(before, x, self.up_share))).square()
        return torch.sigmoid(self.gate(mixed(before, x, self.gate_share))) * self.down(inner)


@dataclass(frozen=True, kw_only=True)
class MixingPlan(LayerPlan):
    """`halvings`: how often states are halved in evaluation in front of this layer; `halves`: once more behind it."""

    halvings: int = 0
    halves: bool = False


class MixingLayer(Layer):
    """Time mixing and channel mixing, each with its norm in front."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__(plan)
        assert isinstance(plan, MixingPlan)
        self.scale, self.halves = 0.5**plan.halvings, plan.halves

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        scale = 1.0 if self.training else self.scale
        added = self.mixer(self.mixer_norm(x), ctx) * scale
        if ctx.attentions is not None:  # there are no weights; documented under that name is this
            ctx.attentions.append(ctx.layout.pad(added))
        x = x + added
        x = x + self.mlp(self.mlp_norm(x), ctx) * scale
        return x / 2 if self.halves and not self.training else x


@dataclass(frozen=True, kw_only=True)
class RwkvPlan(StackPlan):
    """A stack whose cache is documented as five tensors."""

    def build(self) -> RwkvStack:
        """The stack."""
        return RwkvStack(self)


class RwkvStack(RecurrentStack):
    """A stack that takes and returns its cache as the documented `state` too, in evaluation without being asked."""

    def forward(self, *args: Any, **inputs: Any) -> ModelOutput:
        """See `Stack.forward`.

        Args:
            inputs: those of every stack, and `state`, in place of `past_key_values`: five tensors (batch, channels,
                layers) behind an earlier text. They are the last inputs of the channel mixing and of the time mixing,
                and numerator, denominator and greatest logarithm of the averages. A mask is of the new tokens only.

        Raises:
            ValueError: both of them are given, or not five tensors of these shapes; else as there.
        """
        asked = inputs.get("use_cache") or inputs.get("past_key_values") is not None
        if (state := inputs.pop("state", None)) is not None:
            if inputs.get("past_key_values") is not None:
                raise ValueError("give one of state and past_key_values: they are one cache")
            inputs["past_key_values"] = self._cache_of(state)
        if inputs.get("use_cache") is None:
            inputs["use_cache"] = not self.training
        output = super().forward(*args, **inputs)
        if inputs["use_cache"] and output.past_key_values is not None:
            output["state"] = self._state_of(output.past_key_values)
        if not asked:
            output.pop("past_key_values", None)
        return output

    def _state_of(self, cache: Cache) -> list[Tensor]:
        kept = [(*(cache.state(mlp) or ()), *(cache.state(mixer) or ())) for mlp, mixer in self._mixings()]
        return [torch.stack(tensors, -1) for tensors in zip(*kept, strict=True)]

    def _mixings(self) -> list[tuple[nn.Module, nn.Module]]:
        layers: Any = self.layers
        return [(layer.mlp, layer.mixer) for layer in layers]

    def _cache_of(self, state: Sequence[Tensor]) -> Cache:
        if len(state) != 5 or any(x.dim() != 3 or x.shape[2] != len(self.layers) for x in state):
            shapes = [tuple(x.shape) for x in state]
            raise ValueError(f"state is not five tensors (batch, channels, {len(self.layers)} layers), but {shapes}")
        cache = Cache()
        for (mlp, mixer), (of_mlp, *of_mixer) in zip(
            self._mixings(), zip(*(x.unbind(-1) for x in state), strict=True), strict=True
        ):
            cache.keep_state(mlp, of_mlp)
            cache.keep_state(mixer, *of_mixer)
        return cache


def rwkv_plan(c: RwkvConfig) -> RwkvPlan:
    """A normed token table, layers of time mixing and channel mixing, a final norm.

    The published code leaves the mask unread, so that padding in front of a text is text; here it is nothing.
    """
    norm = LayerNorm.Config(eps=c.layer_norm_epsilon)
    every = c.rescale_every if c.rescale_every > 0 else c.num_hidden_layers + 1
    return RwkvPlan(
        embeddings=Embeddings.Config(vocab_size=c.vocab_size, hidden_size=c.hidden_size, norm=norm),
        layers=tuple(
            MixingPlan(
                residual=MixingLayer,
                hidden_size=c.hidden_size,
                norm=norm,
                mixer=TimeMixing.Config(c),
                mlp=ChannelMixing.Config(c),
                halvings=i // every,
                halves=(i + 1) % every == 0,
            )
            for i in range(c.num_hidden_layers)
        ),
        final_norm=LayerNorm.Config(),  # its epsilon is no option
        cached=c.use_cache,
        lists_embeddings=False,
    )


LAYER, OURS = "blocks.{i}.", "layers.{i}."


def rwkv_rows(c: RwkvConfig) -> Iterator[Row]:
    """The key table of the body."""
    yield Same("embeddings", "embeddings.tokens")
    yield Same("blocks.0.pre_ln", "embeddings.norm")
    yield from for_layers(
        c.num_hidden_layers,
        Same(LAYER + "ln1", OURS + "mixer_norm"),
        Same(LAYER + "attention.time_decay", OURS + "mixer.decay"),
        Same(LAYER + "attention.time_first", OURS + "mixer.bonus"),
        Same(LAYER + "attention.time_mix_key", OURS + "mixer.key_share"),
        Same(LAYER + "attention.time_mix_value", OURS + "mixer.value_share"),
        Same(LAYER + "attention.time_mix_receptance", OURS + "mixer.gate_share"),
        Same(LAYER + "attention.key", OURS + "mixer.key"),
        Same(LAYER + "attention.value", OURS + "mixer.value"),
        Same(LAYER + "attention.receptance", OURS + "mixer.gate"),
        Same(LAYER + "attention.output", OURS + "mixer.out"),
        Same(LAYER + "ln2", OURS + "mlp_norm"),
        Same(LAYER + "feed_forward.time_mix_key", OURS + "mlp.up_share"),
        Same(LAYER + "feed_forward.time_mix_receptance", OURS + "mlp.gate_share"),
        Same(LAYER + "feed_forward.key", OURS + "mlp.up"),
        Same(LAYER + "feed_forward.receptance", OURS + "mlp.gate"),
        Same(LAYER + "feed_forward.value", OURS + "mlp.down"),
    )
    yield Same("ln_out", "final_norm")


@dataclass(frozen=True, kw_only=True)
class RwkvInitialization(Initialization):
    """Orthogonal matrices, and shares and decays that vary over channels and over depth."""

    options: RwkvConfig

    def _set(self, module: nn.Module, name: str, parameter: Tensor) -> None:
        c, leaf = self.options, name.rpartition(".")[2]
        layer = int(name.split(".layers.")[1].partition(".")[0]) if ".layers." in name else 0
        depth, rest = layer / max(1, c.num_hidden_layers - 1), 1 - layer / c.num_hidden_layers
        if leaf == "bonus":
            parameter.fill_(1.0)
        elif leaf == "decay":
            channels = torch.arange(len(parameter)) / max(1, len(parameter) - 1)
            parameter.copy_(8 * channels ** (0.7 + 1.3 * depth) - 5)
        elif leaf.endswith("_share"):
            halved = leaf == "gate_share" and isinstance(module, TimeMixing)
            parameter.copy_((torch.arange(c.hidden_size) / c.hidden_size) ** (rest / 2 if halved else rest))
            parameter.add_(0.3 * depth if leaf == "value_share" else 0.0)
        elif parameter.dim() == 2:
            rows, columns = parameter.shape
            gain = max(1.0, (rows / columns) ** 0.5) * (0.5 if (rows, columns) == (c.vocab_size, c.hidden_size) else 1)
            if isinstance(module, nn.Embedding):
                gain = 1e-4 * max(rows, columns) ** 0.5
            nn.init.orthogonal_(parameter, gain)
        else:
            super()._set(module, name, parameter)


def _language_model(c: RwkvConfig) -> LanguageModel.Config:
    return LanguageModel.Config(
        predicts="next", hidden_size=c.hidden_size, vocab_size=c.vocab_size, tied=c.tie_word_embeddings
    )


RWKV = Architecture(
    tasks=declare_tasks(
        "Rwkv",
        "rwkv",
        rwkv_plan,
        rwkv_rows,
        {"causal-lm": TaskHead("ForCausalLM", _language_model, (Same("head", "out"),))},
    ),
    prefixes=("rwkv",),
    initialization=lambda c: RwkvInitialization(std=0.0, options=c),
)
