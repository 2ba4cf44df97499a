"""A message: a projection to the shape of its target, and the fusion with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.broker.places import Place
from eir_seq.broker.projections import chosen
from eir_seq.broker.shapes import Shape
from eir_seq.config.broker import MessageConfig
from eir_seq.registry import imported


class Message(nn.Module):
    """A tensor of one place to another.

    Args:
        number: of the message, counted from 0.
        config: see there.
        source: where it comes from, and
        source_shape: the shape of one row there.
        target: where it goes to, and
        target_shape: the shape of one row there.

    Raises:
        ValueError: projection, fusion and shapes do not go together, and why.
    """

    def __init__(
        self,
        number: int,
        config: MessageConfig,
        source: Place,
        source_shape: Shape,
        target: Place,
        target_shape: Shape,
    ) -> None:
        super().__init__()
        self.name = f"broker[{number}]"
        self.source, self.source_shape, self.target, self.target_shape = source, source_shape, target, target_shape
        self.dropout = config.dropout
        one_text = source.part == target.part and source_shape.positions is None
        projection = chosen(config.projection, config.fusion, source_shape, target_shape, one_text=one_text)
        if projection.type in ("identity", "pointwise") and source_shape.positions is None and not one_text:
            raise ValueError(f"{projection.type!r} needs the same positions, and {source} has those of another text")
        self.how = f"{projection.type}, {config.fusion.type}"
        self.project = imported(projection.IMPLEMENTATION)(projection, source_shape, target_shape)
        self.fuse = imported(config.fusion.IMPLEMENTATION)(config.fusion, target_shape.size)

    def forward(self, x: Tensor, states: Tensor, mask: Tensor | None, there: Tensor | None) -> Tensor:
        """The tensor of the target after the message has come.

        Args:
            x: of the target, (batch, ...).
            states: of the source, (batch, positions, size).
            mask: (batch, positions), True at real positions of the source.
            there: (batch,), the rows that have a message.
        """
        message, positions = self.project(states, mask)
        if self.training and self.dropout:
            kept = torch.rand(len(x), device=x.device) >= self.dropout
            there = kept if there is None else there & kept
        fused: Tensor = self.fuse(self.target_shape.states(x), message, positions, there)
        return self.target_shape.restored(fused).to(x.dtype)

    def read(self) -> Iterator[tuple[Place, Shape]]:
        """The place that is read, and its shape."""
        yield self.source, self.source_shape

    def shapes(self) -> Iterator[tuple[Place, Shape]]:
        """Both places and their shapes."""
        yield from self.read()
        yield self.target, self.target_shape

    def describe(self) -> dict[str, Any]:
        """In words."""
        return {
            "name": self.name,
            "from": str(self.source),
            "shape": str(self.source_shape),
            "how": self.how,
            "to": str(self.target),
            "target shape": str(self.target_shape),
        }
