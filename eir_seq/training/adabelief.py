"""AdaBelief (Zhuang et al. 2020, "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class AdaBelief(Optimizer):
    """Adam whose second moment is that of the gradient around its mean (arXiv:2010.07468, algorithm 2).

    ``m`` and ``s`` are the decaying means of ``g`` and of ``(g - m)**2``, to which ``eps`` is added at each step. The
    step is ``lr * m' / (sqrt(s') + eps)`` with both corrected for their beginning at 0.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: decay of the two means.
        eps: keeps ``s`` above 0.
        weight_decay: share of ``lr`` by which weights shrink at each step, or factor of an L2 penalty.
        decoupled_weight_decay: which of these.

    Example:
        >>> import torch
        >>> from eir_seq.training.adabelief import AdaBelief
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> optimizer = AdaBelief([weight], lr=0.1)
        >>> weight.square().backward()
        >>> optimizer.step()
        >>> round(weight.item(), 2)
        0.89
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = True,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "decoupled_weight_decay": decoupled_weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; gives what `closure` gives, which computes the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.nn.Parameter, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        state, gradient = self.state[parameter], parameter.grad
        beta1, beta2 = group["betas"]
        if not state:
            state["step"] = 0
            state["mean"], state["variance"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        if group["decoupled_weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        else:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        mean, variance = state["mean"], state["variance"]
        mean.lerp_(gradient, 1 - beta1)
        surprise = gradient - mean
        variance.mul_(beta2).addcmul_(surprise, surprise, value=1 - beta2).add_(group["eps"])
        deviation = (variance / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
        parameter.addcdiv_(mean, deviation, value=-group["lr"] / (1 - beta1 ** state["step"]))
