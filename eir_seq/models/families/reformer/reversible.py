"""A stack of two streams whose layers can be undone: training keeps no states of layers (Reformer, section 3.1).

https://arxiv.org/abs/2001.04451, after https://arxiv.org/abs/1707.04585.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models.backbones.stack import Stack, StackPlan
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.residual import Layer


class ReversibleLayer(Layer):
    """Adds to the first stream what the mixer reads in the second, then to the second what the first gives."""

    def mix(self, x: Tensor, ctx: Context) -> Tensor:
        """The second stream -> what is added to the first."""
        return self.mixer_dropout(self.mixer(self.mixer_norm(x), ctx))

    def feed(self, x: Tensor) -> Tensor:
        """The first stream -> what is added to the second."""
        return self.dropout(self.mlp(self.mlp_norm(x)))


@dataclass(frozen=True, kw_only=True)
class ReversibleStackPlan(StackPlan):
    """A stack of `ReversibleLayer`; its states are both streams side by side."""

    @property
    def hidden_size(self) -> int:
        """Width of both streams."""
        return 2 * self.embeddings.hidden_size

    def build(self) -> ReversibleStack:
        """The stack."""
        return ReversibleStack(self)


class ReversibleStack(Stack):
    """Both streams begin as the embeddings. `hidden_states` lists the second one, which mixers read."""

    checkpointable = False

    calls_layers = False

    def __init__(self, plan: ReversibleStackPlan) -> None:
        super().__init__(plan)
        self.final_norm = plan.final_norm.build(plan.hidden_size) if plan.final_norm else None

    def _run(self, x: Tensor, ctx: Context, select: Callable[[int], None]) -> tuple[Tensor, list[Tensor]]:
        """The embeddings -> both streams after all layers, and the second one before and after each."""
        layers: Any = list(self.layers)
        states = [x]
        if self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            parameters = [p for layer in layers for p in layer.parameters() if p.requires_grad]
            first, second = _ReversibleFunction.apply(x, x, _Pass(layers, ctx, select, states), *parameters)
        else:
            first = second = x
            for number, layer in enumerate(layers):
                select(number)
                first = first + layer.mix(second, ctx)
                second = second + layer.feed(first)
                states.append(second)
        return torch.cat((first, second), -1), states


class _Pass:
    """One pass over the layers, forward and then backward."""

    def __init__(
        self, layers: list[ReversibleLayer], ctx: Context, select: Callable[[int], None], states: list[Tensor]
    ) -> None:
        self.layers, self.ctx, self.select, self.states = layers, ctx, select, states
        self.device = ctx.positions.device
        self.draws: list[tuple[Tensor, Tensor | None]] = []
        self.autocast = torch.is_autocast_enabled(self.device.type), torch.get_autocast_dtype(self.device.type)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        for number, layer in enumerate(self.layers):
            self.select(number)
            self._note()
            first = first + layer.mix(second, self.ctx)
            self._note()
            second = second + layer.feed(first)
            self.states.append(second.detach())
        self.states = []  # those of the caller are gone with its list, long before the gradients
        return first, second

    def backward(self, first: Tensor, second: Tensor, grads: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        """The streams after all layers and their gradients -> those of both streams in front, and of parameters."""
        grad_first, grad_second = grads
        self.ctx.attentions = None  # those of the pass itself are what was wanted
        found: list[tuple[Tensor, ...]] = []
        with torch.autocast(self.device.type, enabled=self.autocast[0], dtype=self.autocast[1]):
            for number in reversed(range(len(self.layers))):
                layer = self.layers[number]
                self.select(number)
                added, grad, of_feed = self._again(layer.feed, first, grad_second, layer)
                second, grad_first = second - added, grad_first + grad
                mix = partial(layer.mix, ctx=self.ctx)
                added, grad, of_mix = self._again(mix, second, grad_first, layer)
                first, grad_second = first - added, grad_second + grad
                found.append(tuple(a + b for a, b in zip(of_feed, of_mix, strict=True)))
        return grad_first, grad_second, *(grad for grads_of in reversed(found) for grad in grads_of)

    def _again(
        self, function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor, layer: nn.Module
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """What a sublayer added, with the random numbers of its first time, and gradients of its input and layer."""
        parameters = [p for p in layer.parameters() if p.requires_grad]
        on_cpu, on_device = self.draws.pop()
        with torch.random.fork_rng([self.device] if on_device is not None else []), torch.enable_grad():
            torch.set_rng_state(on_cpu)
            if on_device is not None:
                torch.cuda.set_rng_state(on_device, self.device)
            x = x.detach().requires_grad_()
            added = function(x)
            first, *rest = torch.autograd.grad(added, (x, *parameters), grad.to(added.dtype), allow_unused=True)
        assert first is not None
        zeros = (torch.zeros_like(p) if g is None else g for p, g in zip(parameters, rest, strict=True))
        return added.detach(), first, tuple(zeros)

    def _note(self) -> None:
        on_device = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        self.draws.append((torch.get_rng_state(), on_device))


class _ReversibleFunction(torch.autograd.Function):
    """Both streams through all layers; of their states only the last are kept."""

    @staticmethod
    def forward(keeps: Any, first: Tensor, second: Tensor, run: _Pass, *parameters: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG004
        first, second = run.forward(first, second)
        keeps.run = run
        keeps.save_for_backward(first, second)
        return first, second

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(keeps: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_first, grad_second, *of_parameters = keeps.run.backward(*keeps.saved_tensors, grads)
        return grad_first, grad_second, None, *of_parameters
