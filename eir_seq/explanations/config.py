"""What an experiment may say about the methods of attribution."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from eir_seq.config.explanations import ExplanationBase
from eir_seq.config.strict import Positive


class IntegratedGradientsConfig(ExplanationBase):
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365): the gradient along the straight path from a
    baseline to the input; what the parts add sums up to the difference of the scores at both ends."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.explanations.integrated_gradients:explain"
    method: Literal["integrated-gradients"] = "integrated-gradients"
    tolerance: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="the path is divided further until the error of the sum is at most this share of the sum of all "
        "absolute attributions",
    )
    max_steps: int = Field(256, ge=16, description="gradients along each path at most")
    batch_size: Positive = Field(8, description="points of the path that are computed at once")

    @property
    def most_gradients(self) -> int:
        """How many gradients one row takes at most, from one baseline."""
        return self.max_steps
