"""What a method of attribution gets and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

Scores = Callable[[Tensor], Tensor]
"""Vectors of several versions of one row, (versions, positions, size), to its scores, (versions, targets)."""


@dataclass(frozen=True)
class Explained:
    """Scores of one row, divided among its positions.

    Attributes:
        values: (targets, positions), what each position adds to each score.
        score: (targets,), of the row.
        baseline: (targets,), of the row without information.
    """

    values: Tensor
    score: Tensor
    baseline: Tensor

    @property
    def gap(self) -> Tensor:
        """By how much the attributions miss the difference of the scores, (targets,)."""
        return self.values.sum(dim=1) - (self.score - self.baseline)


class Method(Protocol):
    """A way to divide the scores of a row among its positions."""

    def __call__(self, config: Any, scores: Scores, given: Tensor, baseline: Tensor) -> Explained:
        """The attributions of one row.

        Args:
            config: of the method, an `eir_seq.config.explanations.ExplanationBase`.
            scores: of versions of the row, differentiable.
            given: (positions, size), the vectors of the row.
            baseline: (positions, size), those without information; where both are the same, nothing is attributed.
        """
        ...
