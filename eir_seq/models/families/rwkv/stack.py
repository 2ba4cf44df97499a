"""The stack of rwkv, which carries a state from token to token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models.backbones.recurrent import RecurrentStack
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.layers.cache import Cache
from eir_seq.models.output import ModelOutput


@dataclass(frozen=True, kw_only=True)
class RwkvPlan(StackPlan):
    """A stack whose cache is five tensors in transformers."""

    def build(self) -> RwkvStack:
        """The stack."""
        return RwkvStack(self)


class RwkvStack(RecurrentStack):
    """A stack that takes and returns its cache as transformers' `state` too, in evaluation by default."""

    @property
    def continues_texts(self) -> bool:
        """Yes: only names differ."""
        return True

    def forward(self, *args: Any, **inputs: Any) -> ModelOutput:
        """See `Stack.forward`.

        Args:
            inputs: those of every stack, and `state`, in place of `past_key_values`: five tensors (batch, channels,
                layers) after an earlier text. They are the last inputs of the channel mixing and of the time mixing,
                and numerator, denominator and greatest logarithm of the averages. A mask is of the new tokens only.

        Raises:
            ValueError: both of them are given, or not five tensors of these shapes; else as there.
        """
        keeps_state = inputs.get("use_cache") or inputs.get("past_key_values") is not None
        if (state := inputs.pop("state", None)) is not None:
            if inputs.get("past_key_values") is not None:
                raise ValueError("give one of state and past_key_values: they are one cache")
            inputs["past_key_values"] = self._cache_of(state)
        if inputs.get("use_cache") is None:
            inputs["use_cache"] = not self.training
        output = super().forward(*args, **inputs)
        if inputs["use_cache"] and output.past_key_values is not None:
            output["state"] = self._state_of(output.past_key_values)
        if not keeps_state:
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
