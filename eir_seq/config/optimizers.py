"""Further optimizers as typed data: each is a class of torch (or of eir_seq) and the arguments that it takes.

Weight decay is 0 by default where the class adds it to the gradient (L2), which adaptive rates then distort
(Loshchilov and Hutter 2019, arXiv:1711.05101).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from eir_seq.config.optimization import Betas, Eps, OptimizerBase, TorchOptimizer
from eir_seq.config.strict import Positive


def _lr(default: float) -> Any:
    return Field(default, gt=0, le=100, description="learning rate, after the warm-up")


def _l2() -> Any:
    return Field(0.0, ge=0, description="L2 penalty, added to the gradient; not of biases, norms and other vectors")


def _decoupled() -> Any:
    return Field(True, description="decay the weights themselves, as AdamW does; otherwise an L2 penalty")


class AdamConfig(TorchOptimizer):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980)."""

    CLASS: ClassVar[str] = "torch.optim:Adam"
    FUSED: ClassVar[bool] = True

    type: Literal["adam"] = "adam"
    weight_decay: float = _l2()
    betas: Betas = Field(default=[0.9, 0.999])
    eps: Eps = Field(1e-8)
    amsgrad: bool = Field(False, description="divide by the largest second moment so far (arXiv:1904.09237)")


class NAdamConfig(TorchOptimizer):
    """Adam with Nesterov momentum (Dozat 2016)."""

    CLASS: ClassVar[str] = "torch.optim:NAdam"

    type: Literal["nadam"] = "nadam"
    lr: float = _lr(2e-3)
    betas: Betas = Field(default=[0.9, 0.999])
    eps: Eps = Field(1e-8)
    momentum_decay: float = Field(4e-3, ge=0, description="decay of the momentum")
    decoupled_weight_decay: bool = _decoupled()


class RAdamConfig(TorchOptimizer):
    """Adam with rectified variance (Liu et al. 2020, arXiv:1908.03265)."""

    CLASS: ClassVar[str] = "torch.optim:RAdam"

    type: Literal["radam"] = "radam"
    betas: Betas = Field(default=[0.9, 0.999])
    eps: Eps = Field(1e-8)
    decoupled_weight_decay: bool = _decoupled()


class AdamaxConfig(TorchOptimizer):
    """Adam with the infinity norm (Kingma and Ba 2015, section 7)."""

    CLASS: ClassVar[str] = "torch.optim:Adamax"

    type: Literal["adamax"] = "adamax"
    lr: float = _lr(2e-3)
    weight_decay: float = _l2()
    betas: Betas = Field(default=[0.9, 0.999])
    eps: Eps = Field(1e-8)


class RmsPropConfig(TorchOptimizer):
    """RMSprop (Hinton 2012)."""

    CLASS: ClassVar[str] = "torch.optim:RMSprop"

    type: Literal["rmsprop"] = "rmsprop"
    lr: float = _lr(1e-2)
    weight_decay: float = _l2()
    alpha: float = Field(0.99, ge=0, lt=1, description="decay of the mean of squared gradients")
    eps: Eps = Field(1e-8)
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum: share of the last update that is kept")
    centered: bool = Field(False, description="divide by the standard deviation of the gradient")


class AdagradConfig(TorchOptimizer):
    """Adagrad (Duchi et al. 2011)."""

    CLASS: ClassVar[str] = "torch.optim:Adagrad"

    type: Literal["adagrad"] = "adagrad"
    lr: float = _lr(1e-2)
    weight_decay: float = _l2()
    lr_decay: float = Field(0.0, ge=0, description="the rate is divided by 1 + lr_decay * steps")
    initial_accumulator_value: float = Field(0.0, ge=0, description="first sum of squared gradients")
    eps: Eps = Field(1e-10)


class AdadeltaConfig(TorchOptimizer):
    """Adadelta (Zeiler 2012, arXiv:1212.5701)."""

    CLASS: ClassVar[str] = "torch.optim:Adadelta"

    type: Literal["adadelta"] = "adadelta"
    lr: float = _lr(1.0)
    weight_decay: float = _l2()
    rho: float = Field(0.9, ge=0, lt=1, description="decay of the means of squared gradients and updates")
    eps: Eps = Field(1e-6)


class AsgdConfig(TorchOptimizer):
    """SGD with the decaying rate of averaged SGD (Polyak and Juditsky 1992).

    Its average of the weights stays in the optimizer; `trainer.averaging` evaluates and saves one.
    """

    CLASS: ClassVar[str] = "torch.optim:ASGD"

    type: Literal["asgd"] = "asgd"
    lr: float = _lr(1e-2)
    weight_decay: float = _l2()
    lambd: float = Field(1e-4, ge=0, description="decay of weights and rate")
    alpha: float = Field(0.75, ge=0, description="power of the decay of the rate")
    t0: float = Field(1e6, ge=0, description="step at which averaging begins")


class AdaBeliefConfig(TorchOptimizer):
    """AdaBelief: steps by the belief in the gradient (Zhuang et al. 2020, arXiv:2010.07468)."""

    CLASS: ClassVar[str] = "eir_seq.training.adabelief:AdaBelief"

    type: Literal["adabelief"] = "adabelief"
    betas: Betas = Field(default=[0.9, 0.999])
    eps: Eps = Field(1e-16)
    decoupled_weight_decay: bool = _decoupled()


class MuonConfig(OptimizerBase):
    """Muon for the matrices of hidden layers, AdamW for embeddings, heads and vectors (Jordan et al. 2024)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.training.optimizers:muon"
    ELEMENTWISE: ClassVar[bool] = False
    MATRICES: ClassVar[bool] = True

    type: Literal["muon"] = "muon"
    momentum: float = Field(0.95, ge=0, lt=1, description="momentum of Muon")
    nesterov: bool = Field(True, description="Nesterov momentum")
    ns_steps: Positive = Field(5, le=99, description="Newton-Schulz iterations that orthogonalize an update")
    adjust_lr: Literal["match_rms_adamw", "original"] = Field(
        "match_rms_adamw",
        description="match_rms_adamw scales updates to the size of AdamW's, so that one lr suits both "
        "(arXiv:2502.16982); original by the shape of the matrix, with an lr of about 0.02",
    )
    adamw_lr: float | None = Field(None, gt=0, le=100, description="learning rate of AdamW; lr if absent")
    betas: Betas = Field(default=[0.9, 0.95])
    eps: Eps = Field(1e-8)
