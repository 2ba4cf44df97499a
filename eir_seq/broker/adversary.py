"""Adversaries: networks that predict something from a layer, whose gradient they reverse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.broker.places import Place
from eir_seq.broker.projections import mean_states
from eir_seq.broker.shapes import Shape
from eir_seq.config.broker import AdversaryConfig
from eir_seq.models.layers.dropout import Dropout


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None


def reversed_gradient(x: Tensor, factor: float) -> Tensor:
    """The same tensor; its gradient is multiplied by ``-factor`` (Ganin et al. 2016, arXiv:1505.07818).

    Example:
        >>> x = torch.tensor(2.0, requires_grad=True)
        >>> (3 * reversed_gradient(x, 0.5)).backward()
        >>> x.grad
        tensor(-1.5000)
    """
    found: Tensor = _Reversal.apply(x, factor)  # type: ignore[no-untyped-call]
    return found


def ramp(step: int, warmup: int) -> float:
    """The share of the weight after so many steps: from 0 to 1 along ``2 / (1 + exp(-10 p)) - 1``, as in that paper.

    Example:
        >>> [round(ramp(step, 100), 2) for step in (0, 10, 50, 100)]
        [0.0, 0.46, 0.99, 1.0]
    """
    return 1.0 if step >= warmup else 2 / (1 + math.exp(-10 * step / warmup)) - 1


class Adversary(nn.Module):
    """Hidden layers, and a head that predicts.

    What has several positions is read whole, or by its mean where their number varies.

    Args:
        number: of the adversary, counted from 0.
        config: see there.
        source: the place whose gradient it reverses, and
        source_shape: the shape of one row there.
        predicted: the place that it predicts; None where that is an output's targets.
        predicted_shape: the shape of one row there.
        head: builds the head of the output that it predicts, of features of a width.
    """

    def __init__(
        self,
        number: int,
        config: AdversaryConfig,
        source: Place,
        source_shape: Shape,
        predicted: Place | None = None,
        predicted_shape: Shape | None = None,
        head: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.config = f"adversaries[{number}]", config
        self.source, self.source_shape = source, source_shape
        self.predicted, self.predicted_shape = predicted, predicted_shape
        self.probe = f"outputs.{config.output}" if config.output is not None and config.probe else None
        widths = [source_shape.values, *[config.hidden_size] * config.num_layers]
        self.hidden = nn.Sequential()
        for read, given in pairwise(widths):
            self.hidden.extend([nn.Linear(read, given), nn.GELU(), Dropout(config.dropout)])
        if head is not None:
            self.head = head(config.hidden_size)
        else:
            assert predicted_shape is not None
            self.head = nn.Linear(config.hidden_size, predicted_shape.values)

    def forward(self, states: Tensor, mask: Tensor | None, factor: float) -> Tensor:
        """What is predicted, (batch, ...), from states (batch, positions, size) whose gradient is reversed."""
        raw: Tensor = self.head(self.hidden(_vector(reversed_gradient(states, factor), mask, self.source_shape)))
        return raw

    def errors(self, raw: Tensor, states: Tensor, mask: Tensor | None) -> Tensor:
        """The mean squared error of each row, (batch, 1), where `states` of a layer are predicted; these are given."""
        assert self.predicted_shape is not None
        target = _vector(states, mask, self.predicted_shape).detach().float()
        return (raw.float() - target).square().mean(dim=1, keepdim=True)

    def shapes(self) -> Iterator[tuple[Place, Shape]]:
        """Its places and their shapes."""
        yield from self.read()

    def read(self) -> Iterator[tuple[Place, Shape]]:
        """The same, as all are read."""
        yield self.source, self.source_shape
        if self.predicted is not None:
            assert self.predicted_shape is not None
            yield self.predicted, self.predicted_shape

    def describe(self) -> dict[str, Any]:
        """In words."""
        return {
            "name": self.name,
            "from": str(self.source),
            "shape": str(self.source_shape),
            "how": f"adversary, weight {self.config.weight:g}",
            "to": self.config.predict,
            "target shape": "its targets" if self.predicted_shape is None else str(self.predicted_shape),
        }


def _vector(states: Tensor, mask: Tensor | None, shape: Shape) -> Tensor:
    """(batch, positions, size) to (batch, values)."""
    return mean_states(states, mask)[:, 0] if shape.positions is None else states.flatten(1)
