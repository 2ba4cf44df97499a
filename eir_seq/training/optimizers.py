"""Builds optimizers from their configs, see `OptimizerBase.IMPLEMENTATION`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.optim import AdamW, Muon, Optimizer

from eir_seq.config.optimization import TorchOptimizer
from eir_seq.config.optimizers import MuonConfig
from eir_seq.errors import UserError
from eir_seq.registry import imported

Groups = list[dict[str, Any]]
"""Parameters with their learning rate and weight decay, as torch's optimizers take them."""


def of_class(config: TorchOptimizer, groups: Groups, fused: bool) -> Optimizer:
    """The optimizer of a class, with the options of its config; raises `UserError` if these exclude each other."""
    if faults := list(config.faults()):
        raise UserError(*faults)
    options = {**config.options(), **({"fused": fused} if config.FUSED else {})}
    optimizer: Optimizer = never_compiled(imported(config.CLASS))(groups, lr=config.lr, **options)
    return optimizer


@cache
def never_compiled(optimizer: type[Any]) -> type[Any]:
    """An optimizer of torch whose methods do not tell `torch.compile` what to leave out.

    For that they import torch._dynamo, which takes a second of processor time. Nothing compiles an optimizer here.
    Classes of others are returned as they are.
    """
    if optimizer.__module__.partition(".")[0] != "torch":
        return optimizer
    names = ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in names}
    methods["step"] = torch.no_grad()(methods["step"])
    return type(optimizer.__name__, (optimizer,), {"__module__": optimizer.__module__, **methods})


def muon(config: MuonConfig, groups: Groups, fused: bool) -> MuonWithAdamW:
    """Muon for groups with ``matrices``, AdamW for the others."""
    return MuonWithAdamW(groups, config, fused=fused)


class MuonWithAdamW(Optimizer):
    """Two optimizers as one: `torch.optim.Muon` for the matrices of hidden layers, AdamW for all else.

    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".

    Args:
        groups: parameter groups; those with ``matrices`` hold two-dimensional parameters only.
        config: the options of both.
        fused: use the fused kernel of AdamW.
    """

    def __init__(self, groups: Groups, config: MuonConfig, *, fused: bool) -> None:
        of_muon = [group for group in groups if group["matrices"]]
        of_adamw = [group for group in groups if not group["matrices"]]
        if config.adamw_lr is not None:
            of_adamw = [{**group, "lr": group["lr"] * config.adamw_lr / config.lr} for group in of_adamw]
        self._parts: list[Optimizer] = []
        if of_muon:
            self._parts.append(
                Muon(
                    of_muon,
                    lr=config.lr,
                    momentum=config.momentum,
                    nesterov=config.nesterov,
                    ns_steps=config.ns_steps,
                    adjust_lr_fn=config.adjust_lr,
                )
            )
        if of_adamw:
            beta1, beta2 = config.betas
            self._parts.append(AdamW(of_adamw, lr=config.lr, betas=(beta1, beta2), eps=config.eps, fused=fused))
        super().__init__([group for part in self._parts for group in part.param_groups], {"lr": config.lr})
        self._share()

    def _share(self) -> None:
        """The parts work on the groups and the state of the whole, which is what is saved and loaded."""
        groups = iter(self.param_groups)
        for part in self._parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both; returns what `closure` gives, which computes the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss
