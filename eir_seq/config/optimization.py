"""Optimizers and schedules of the learning rate, as typed data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from eir_seq.config.strict import Strict, ignored
from eir_seq.errors import Fault

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class OptimizerBase(Strict):
    """What every optimizer has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:function`` of the torch optimizer, called as ``(config, groups, fused)``: parameter groups with their
    learning rate and weight decay, and whether fused kernels may be used."""

    if TYPE_CHECKING:
        type: str
    lr: float = Field(1e-3, gt=0, le=100, description="learning rate, after the warm-up")
    weight_decay: float = Field(0.01, ge=0, description="weight decay; not applied to biases, norms and other vectors")
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="layer-wise learning-rate decay: factor from each backbone layer to the one below"
    )

    def faults(self) -> Iterator[Fault]:
        """What its options demand of each other."""
        yield from ()


class AdamWConfig(OptimizerBase):
    """Adam with decoupled weight decay (fused where the device can)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.optimization:adamw"

    type: Literal["adamw"] = "adamw"
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=[0.9, 0.999], min_length=2, max_length=2, description="decay of the first and second moments"
    )
    eps: float = Field(1e-8, gt=0, description="added to the denominator")


class SgdConfig(OptimizerBase):
    """Stochastic gradient descent with momentum."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.optimization:sgd"

    type: Literal["sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum: share of the last update that is kept")
    nesterov: bool = Field(False, description="Nesterov momentum")

    def faults(self) -> Iterator[Fault]:
        """Nesterov's method is one of momentum."""
        if self.nesterov and self.momentum == 0:
            yield Fault("optimizer.nesterov", "needs momentum above 0")


class AdafactorConfig(OptimizerBase):
    """Adafactor: factored second moments, memory of rows plus columns instead of their product."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.optimization:adafactor"

    type: Literal["adafactor"] = "adafactor"
    beta2_decay: float = Field(-0.8, le=0, description="exponent of the decay schedule of the second moments")


class SchedulerBase(Strict):
    """What every schedule of the learning rate has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:function``, called as ``(config, total)``, of the factor on the learning rate as a function of the steps
    done."""

    if TYPE_CHECKING:
        type: str
    extend: Literal["rescale", "continue"] = Field(
        "rescale",
        description="when a run gets another end: rescale computes the rate over all steps anew, so that it jumps; "
        "continue keeps the schedule that the run had, then its last rate",
    )

    def faults(self, sections: Sections) -> Iterator[Fault]:
        """What it demands of itself and of the rest of the experiment."""
        del sections
        yield from ()


class SchedulerConfig(SchedulerBase):
    """Learning rate over the steps of the run."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.optimization:warmup_and_decay"

    type: Literal["constant", "linear", "cosine", "one-cycle"] = "linear"
    warmup: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)] = Field(
        0.06, description="steps (integer) or fraction of all steps over which the rate rises from zero"
    )
    final_ratio: float = Field(0.0, ge=0, le=1, description="rate at the end, as a share of lr (linear, cosine)")

    def faults(self, sections: Sections) -> Iterator[Fault]:
        """Options without effect, and a warm-up that is longer than the run."""
        if self.type in ("constant", "one-cycle"):
            yield from ignored("scheduler", self, "final_ratio", f"with type {self.type!r} (linear and cosine have it)")
        steps = None if sections.trainer is None else sections.trainer.max_steps
        if steps is not None and isinstance(self.warmup, int) and self.warmup >= steps:
            yield Fault("scheduler.warmup", f"{self.warmup} steps do not end before max_steps {steps}")
