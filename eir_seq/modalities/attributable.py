"""What of an input can be varied continuously, so that a score of the network can be divided among its parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from eir_seq.randomness import Draw


@dataclass(frozen=True)
class Unit:
    """A part of a row that has an attribution, such as a token of a text.

    Attributes:
        position: in the tensors of the encoder.
        text: what a person reads.
        column: of the data that it comes from.
        start: its first character in the cell, and
        end: the one after its last; both None where there is no such thing.
    """

    position: int
    text: str
    column: str
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class Attributable(ABC):
    """The vectors of an input that attributions are with respect to, and what they stand for.

    Attributes:
        tensor: the tensor of integers, (batch, positions), that the encoder reads.
        table: the module that gives their vectors, (batch, positions, size), when the encoder reads them.
    """

    tensor: str
    table: nn.Module

    @abstractmethod
    def baselines(self, kind: str, count: int) -> Tensor:
        """Vectors that stand for no information, (count, size).

        Args:
            kind: ``mean``, ``padding`` or ``zero``, of which there is one, or ``tokens``.
            count: how many.
        """

    @abstractmethod
    def units(self, rows: Mapping[str, Sequence[Any]], row: int, draw: Draw) -> list[Unit]:
        """The parts of one row by position; positions without one, such as special tokens, are not varied.

        Args:
            rows: the columns of the input, of this row alone.
            row: its number in the split, and
            draw: random numbers of the evaluation, by which windows of long rows are drawn.
        """
