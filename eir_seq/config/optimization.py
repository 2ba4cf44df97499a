"""Optimizers and schedules of the learning rate, as typed data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

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
    MATRICES: ClassVar[bool] = False
    """Whether the matrices of hidden layers form separate parameter groups, with ``matrices: True``."""

    ELEMENTWISE: ClassVar[bool] = True
    """Whether the update of a weight depends on the gradients of that weight alone, so that it works on shards."""

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


class TorchOptimizer(OptimizerBase):
    """An optimizer whose fields, besides those of every optimizer, are the arguments of a class."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.optimizers:of_class"
    CLASS: ClassVar[str]
    """``module:Class``, a `torch.optim.Optimizer`."""
    FUSED: ClassVar[bool] = False
    """Whether it is run with fused kernels where the device has them."""

    def options(self) -> dict[str, Any]:
        """The arguments of the class, without parameters, learning rate and weight decay."""
        own = self.model_dump(exclude={"type", *OptimizerBase.model_fields})
        return {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}


Betas = Annotated[
    list[Annotated[float, Field(ge=0, lt=1)]],
    Field(min_length=2, max_length=2, description="decay of the first and second moments"),
]
Eps = Annotated[float, Field(gt=0, description="added to the denominator")]


class AdamWConfig(TorchOptimizer):
    """Adam with decoupled weight decay (fused where the device can)."""

    CLASS: ClassVar[str] = "torch.optim:AdamW"
    FUSED: ClassVar[bool] = True

    type: Literal["adamw"] = "adamw"
    betas: Betas = Field(default=[0.9, 0.999])
    eps: Eps = Field(1e-8)


class SgdConfig(TorchOptimizer):
    """Stochastic gradient descent with momentum."""

    CLASS: ClassVar[str] = "torch.optim:SGD"

    type: Literal["sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum: share of the last update that is kept")
    nesterov: bool = Field(False, description="Nesterov momentum")

    def faults(self) -> Iterator[Fault]:
        """Nesterov's method is one of momentum."""
        if self.nesterov and self.momentum == 0:
            yield Fault("optimizer.nesterov", "needs momentum above 0")


class AdafactorConfig(TorchOptimizer):
    """Adafactor: factored second moments, memory of rows plus columns instead of their product."""

    CLASS: ClassVar[str] = "torch.optim:Adafactor"
    ELEMENTWISE: ClassVar[bool] = False

    type: Literal["adafactor"] = "adafactor"
    beta2_decay: float = Field(-0.8, le=0, description="exponent of the decay schedule of the second moments")


class SchedulerBase(Strict):
    """What every schedule of the learning rate has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:function``, called as ``(config, total)``, of the factor on the learning rate as a function of the steps
    done."""
    FOLLOWS_MONITOR: ClassVar[bool] = False
    """Whether evaluations reduce the rate, too, by `factor`, `patience`, `min_delta`, `cooldown` and `min_ratio`."""

    if TYPE_CHECKING:
        type: str
    extend: Literal["rescale", "continue"] = Field(
        "rescale",
        description="when a run is extended: rescale recomputes the rate over all steps, so that it jumps; "
        "continue keeps the schedule that the run had, then its last rate",
    )

    def faults(self, sections: Sections) -> Iterator[Fault]:
        """What it demands of itself and of the rest of the experiment."""
        del sections
        yield from ()


Warmup = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)]


class SchedulerConfig(SchedulerBase):
    """Learning rate over the steps of the run."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.optimization:warmup_and_decay"

    type: Literal["constant", "linear", "cosine", "one-cycle"] = "linear"
    warmup: Warmup = Field(
        0.06, description="steps (integer) or fraction of all steps over which the rate rises from zero"
    )
    final_ratio: float = Field(0.0, ge=0, le=1, description="rate at the end, as a share of lr (linear, cosine)")

    def faults(self, sections: Sections) -> Iterator[Fault]:
        """Options without effect, and a warm-up that is longer than the run."""
        if self.type in ("constant", "one-cycle"):
            yield from ignored("scheduler", self, "final_ratio", f"with type {self.type!r} (linear and cosine have it)")
        yield from _endless_warmup(self.warmup, sections)


class PlateauConfig(SchedulerBase):
    """A constant learning rate that is reduced when the monitored value no longer improves."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.plateau:warmup"
    FOLLOWS_MONITOR: ClassVar[bool] = True

    type: Literal["plateau"] = "plateau"
    warmup: Warmup = Field(
        0.06, description="steps (integer) or fraction of all steps over which the rate rises from zero"
    )
    factor: float = Field(0.1, gt=0, lt=1, description="factor on the rate at each reduction")
    patience: int = Field(3, ge=0, description="evaluations without improvement that are tolerated")
    min_delta: float = Field(0.0, ge=0, description="smallest change of trainer.monitor that counts as an improvement")
    cooldown: int = Field(0, ge=0, description="evaluations after a reduction that are not counted")
    min_ratio: float = Field(0.0, ge=0, lt=1, description="smallest rate, as a share of lr")

    def faults(self, sections: Sections) -> Iterator[Fault]:
        """A warm-up that is longer than the run, and evaluations that are needed and not made."""
        yield from _endless_warmup(self.warmup, sections)
        if sections.data is not None and sections.data.validation is None:
            yield Fault("scheduler.type", "'plateau' needs validation rows; data.validation is null")


def _endless_warmup(warmup: int | float, sections: Sections) -> Iterator[Fault]:
    steps = None if sections.trainer is None else sections.trainer.max_steps
    if steps is not None and isinstance(warmup, int) and warmup >= steps:
        yield Fault("scheduler.warmup", f"{warmup} steps do not end before max_steps {steps}")
