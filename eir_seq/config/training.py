"""Averages of the weights and weights of the losses, as typed data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from eir_seq.config.strict import Positive, Strict

# ------------------------------------------------------------------------------------------ averages of the weights


class AveragingBase(Strict):
    """An average of the weights beside those that are trained; it is what is evaluated and kept."""

    if TYPE_CHECKING:
        type: str
        every: int | None


class EmaConfig(AveragingBase):
    """Exponential moving average of the weights."""

    type: Literal["ema"] = "ema"
    decay: float = Field(
        0.999,
        gt=0,
        lt=1,
        description="share of the average that an update keeps, after n updates (1 + n) / (10 + n) at most",
    )
    every: Positive | None = Field(1, description="steps between updates; each epoch if absent")


class SwaConfig(AveragingBase):
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407): the mean of the weights from a step on."""

    type: Literal["swa"] = "swa"
    start: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)] = Field(
        0.75, description="steps (integer) or fraction of all steps before the first weights that are averaged"
    )
    every: Positive | None = Field(None, description="steps between weights that are averaged; each epoch if absent")
    lr: float | None = Field(
        None, gt=0, le=100, description="learning rate from the start on; the schedule goes on if absent"
    )
    anneal: int = Field(0, ge=0, description="steps over which the rate reaches lr, along a cosine")


AveragingConfig = Annotated[EmaConfig | SwaConfig, Field(discriminator="type")]


# -------------------------------------------------------------------------------------------- weights of the losses


class LossWeightingBase(Strict):
    """How the losses of several outputs become one."""

    IMPLEMENTATION: ClassVar[str]
    """``module:Class`` of an `eir_seq.training.weighting.LossWeighting`."""

    if TYPE_CHECKING:
        type: str


class FixedWeightingConfig(LossWeightingBase):
    """The sum of the losses by `loss_weight`."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.weighting:LossWeighting"

    type: Literal["fixed"] = "fixed"


class UncertaintyWeightingConfig(LossWeightingBase):
    """Weights by a learned variance of each output (Kendall et al. 2018, arXiv:1705.07115)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.weighting:UncertaintyWeighting"

    type: Literal["uncertainty"] = "uncertainty"


class GradNormConfig(LossWeightingBase):
    """Weights for which all outputs learn at similar rates (GradNorm, Chen et al. 2018, arXiv:1711.02257)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.weighting:GradNorm"

    type: Literal["gradnorm"] = "gradnorm"
    alpha: float = Field(1.5, ge=0, description="how strongly outputs that learn slowly are favoured")
    lr: float = Field(0.025, gt=0, le=1, description="learning rate of the weights")


def _named(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


WeightingConfig = Annotated[
    FixedWeightingConfig | UncertaintyWeightingConfig | GradNormConfig,
    Field(discriminator="type"),
    BeforeValidator(
        _named,
        json_schema_input_type=FixedWeightingConfig
        | UncertaintyWeightingConfig
        | GradNormConfig
        | Literal["fixed", "uncertainty", "gradnorm"],
    ),
]
"""One of the kinds; its name alone stands for its defaults."""
