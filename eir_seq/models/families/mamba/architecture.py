"""Mamba (https://arxiv.org/abs/2312.00752)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.recurrent import RecurrentStack
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.mamba.layers import MixerLayer, NarrowingNorm, SelectiveStateSpace
from eir_seq.models.families.mamba.options import MambaConfig
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.output import ModelOutput


@dataclass(frozen=True, kw_only=True)
class MambaPlan(StackPlan):
    """A stack whose cache has its own name in transformers."""

    def build(self) -> MambaStack:
        """The stack."""
        return MambaStack(self)


class MambaStack(RecurrentStack):
    """A stack that takes and returns its cache as `cache_params` too."""

    @property
    def continues_texts(self) -> bool:
        """Yes: only names differ."""
        return True

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


LAYER, NATIVE = "layers.{i}.", "layers.{i}."


def mamba_rows(c: MambaConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield Same("embeddings", "embeddings.tokens")
    yield Same("embedding", "embeddings.tokens")  # in old files
    yield from for_layers(
        c.num_hidden_layers,
        Same(LAYER + "norm", NATIVE + "mixer_norm"),
        Same(LAYER + "mixer.in_proj", NATIVE + "mixer.entry"),
        Same(LAYER + "mixer.conv1d", NATIVE + "mixer.convolution"),
        Same(LAYER + "mixer.x_proj", NATIVE + "mixer.selection"),
        Same(LAYER + "mixer.dt_proj", NATIVE + "mixer.step"),
        Same(LAYER + "mixer.A_log", NATIVE + "mixer.log_rates"),
        Same(LAYER + "mixer.D", NATIVE + "mixer.skip"),
        Same(LAYER + "mixer.out_proj", NATIVE + "mixer.out"),
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
