"""Which scores of an output are explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

Chosen = Callable[[Tensor], Tensor]
"""Raw outputs or targets (rows, ...) to which classes they stand for, (rows, names) bool."""


@dataclass(frozen=True)
class Scored:
    """The scores of an output, as a differentiable function of its raw outputs.

    Attributes:
        names: of the scores: classes, labels, columns, events.
        of: raw outputs (rows, width), and the numbers of some names, to their scores (rows, these), row by row.
        what: what a score is, for people.
        predicted: of classes and labels, raw outputs (rows, width) to those that are predicted; None where every score
            is explained, as of numbers.
        true: the same of targets (rows, ...).
    """

    names: Sequence[str]
    of: Callable[[Tensor, Sequence[int]], Tensor]
    what: str
    predicted: Chosen | None = None
    true: Chosen | None = None
