"""Optimizers and schedules of the learning rate, as typed data."""

from __future__ import annotations

from typing import Annotated, Literal, Union

from pydantic import Field

from eir_seq.config.strict import Strict


class OptimizerBase(Strict):
    """What every optimizer has."""

    lr: float = Field(1e-3, gt=0, le=100, description="learning rate, after the warm-up")
    weight_decay: float = Field(0.01, ge=0, description="weight decay; not applied to biases, norms and other vectors")
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="layer-wise learning-rate decay: factor from each backbone layer to the one below"
    )


class AdamWConfig(OptimizerBase):
    """Adam with decoupled weight decay (fused where the device can)."""

    type: Literal["adamw"] = "adamw"
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=[0.9, 0.999], min_length=2, max_length=2, description="decay of the first and second moments"
    )
    eps: float = Field(1e-8, gt=0, description="added to the denominator")


class SgdConfig(OptimizerBase):
    """Stochastic gradient descent with momentum."""

    type: Literal["sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum: share of the last update that is kept")
    nesterov: bool = Field(False, description="Nesterov momentum")


class AdafactorConfig(OptimizerBase):
    """Adafactor: factored second moments, memory of rows plus columns instead of their product."""

    type: Literal["adafactor"] = "adafactor"
    beta2_decay: float = Field(-0.8, le=0, description="exponent of the decay schedule of the second moments")


OptimizerConfig = Annotated[
    Union[AdamWConfig, SgdConfig, AdafactorConfig],  # noqa: UP007
    Field(discriminator="type"),
]


class SchedulerConfig(Strict):
    """Learning rate over the steps of the run."""

    type: Literal["constant", "linear", "cosine", "one-cycle"] = "linear"
    warmup: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)] = Field(
        0.06, description="steps (integer) or fraction of all steps over which the rate rises from zero"
    )
    final_ratio: float = Field(0.0, ge=0, le=1, description="rate at the end, as a share of lr (linear, cosine)")
    extend: Literal["rescale", "continue"] = Field(
        "rescale",
        description="when a run is extended: rescale recomputes the schedule over all steps, so the rate jumps; "
        "continue keeps the schedule that the run had, then its last rate",
    )
