"""Activation checkpointing: a layer keeps its input only, and computes the rest once more for its gradients.

https://arxiv.org/abs/1604.06174. Gradients are the same bit for bit: the second pass finds the random numbers, the
context, the cache and the buffers that the first one found.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from eir_seq.models.layers.context import Context


class CheckpointsLayers(nn.Module):
    """A backbone whose layers can be checkpointed, while it is trained.

    `checkpoints`: whether they are, see `Model.gradient_checkpointing_enable`.
    """

    checkpoints = False
    checkpointable = True
    """Whether checkpoints would save memory: not where layers are undone in the backward pass."""

    def checkpoints_now(self) -> bool:
        """Whether this pass is one of training whose layers are computed twice."""
        return self.checkpoints and self.training and torch.is_grad_enabled()

    def _through(self, layer: nn.Module, x: Tensor, ctx: Context) -> Tensor:
        """The states of `ctx` after a layer."""
        states: Tensor = checkpointed(layer, x, ctx) if self.checkpoints_now() else layer(x, ctx)
        return states


def checkpointed(layer: nn.Module, x: Tensor, ctx: Context) -> Tensor:
    """`layer(x, ctx)`, of whose activations only `x` is kept."""
    entry = ctx.snapshot()
    buffers = {name: buffer.clone() for name, buffer in layer.named_buffers()}  # running ranges and means, if any
    again = False

    def run(x: Tensor) -> Any:
        nonlocal again
        if not again:
            again = True
            return layer(x, ctx)
        found = entry.snapshot()  # whatever is kept or listed a second time goes nowhere
        if not buffers:
            return layer(x, found)
        return functional_call(layer, {name: buffer.clone() for name, buffer in buffers.items()}, (x, found))

    states: Tensor = checkpoint(run, x, use_reentrant=False)
    return states
