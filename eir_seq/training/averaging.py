"""Averages of the trained weights: exponential moving (EMA) and stochastic (SWA)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_swa_multi_avg_fn

from eir_seq.config.optimization import OptimizerBase
from eir_seq.config.training import AveragingBase, EmaConfig, SwaConfig
from eir_seq.training.evaluation import Batch, autocast, evaluation_mode, to_device
from eir_seq.training.network import Network
from eir_seq.training.sharding import load_shards


class Averaging:
    """A copy of the network that holds the average of its weights.

    Args:
        network: the network before its first step.
        config: how its weights are averaged.
        total: optimizer steps of the schedule, of which `start` may be a share.
    """

    def __init__(self, network: Network, config: AveragingBase, total: int) -> None:
        self.config = config
        self.start = first_step(config, total)
        average = self._ema if isinstance(config, EmaConfig) else get_swa_multi_avg_fn()  # type: ignore[no-untyped-call]
        self._average = AveragedModel(network, multi_avg_fn=average)

    @property
    def active(self) -> bool:
        """Whether weights have been averaged."""
        return bool(self._average.n_averaged > 0)

    @property
    def network(self) -> Network:
        """The copy."""
        copy = self._average.module
        assert isinstance(copy, Network)
        return copy

    def begin(self, step: int, device: torch.device) -> None:
        """Training continues from a step on a device; a start that was moved beyond it takes effect."""
        self._average.module.to(device)  # the counter stays on the CPU: asking for it does not wait for the device
        if step < self.start:
            self._average.n_averaged.zero_()

    def after_step(self, network: Network, step: int, *, epoch_ends: bool) -> None:
        """Take the weights into the average if it is their turn."""
        every = self.config.every
        due = epoch_ends if every is None else (step - self.start) % every == 0
        if step >= self.start and step and due:
            self._average.update_parameters(network)

    def renewed(
        self,
        network: Network,
        batches: Callable[[], Iterable[Batch]],
        *,
        device: torch.device,
        precision: str,
        whole: Network | None = None,
    ) -> Network:
        """The copy, its batch norms with the statistics that training rows have under the averaged weights.

        Batch norms that are not trained keep theirs.

        Args:
            network: the network that is trained.
            batches: gives batches of training rows.
            device: where both are.
            precision: the trainer's precision.
            whole: a network with all averaged weights, which takes the place of the copy where that is in shards.
        """
        copy = self.network if whole is None else whole
        copy.to(device)  # follows the network, which leaves its device when training ends
        names = [name for name, part in network.named_modules() if isinstance(part, _BatchNorm) and part.training]
        norms = [part for name in names if (part := copy.get_submodule(name)).track_running_stats]
        if norms:
            _renew(copy, norms, batches(), device, precision)
        return copy

    def state(self) -> dict[str, Any]:
        """For `restore`, exactly."""
        return {"updates": int(self._average.n_averaged), "network": self.network.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self._average.n_averaged.fill_(state["updates"])
        load_shards(self.network, state["network"])

    def _ema(self, averaged: Any, current: Any, _updates: Tensor | int) -> None:
        """The weights of early steps would stay for long: the first updates keep less of them."""
        assert isinstance(self.config, EmaConfig)
        done = int(self._average.n_averaged)
        decay = min(self.config.decay, (1 + done) / (10 + done))
        torch._foreach_lerp_(averaged, current, 1 - decay)


def first_step(config: AveragingBase, total: int) -> int:
    """Steps before the first weights that are averaged, in a schedule of `total` steps."""
    if not isinstance(config, SwaConfig):
        return 0
    return config.start if isinstance(config.start, int) else round(config.start * total)


def averaged_rate(
    scheduled: Callable[[int], float], averaging: AveragingBase | None, optimizer: OptimizerBase, total: int
) -> Callable[[int], float]:
    """The factor on the learning rate by the steps done: the scheduled one, until averaging has its own rate.

    Args:
        scheduled: the factor of the schedule.
        averaging: how weights are averaged.
        optimizer: its learning rate is the one that factors are of.
        total: steps of the schedule.
    """
    if not isinstance(averaging, SwaConfig) or averaging.lr is None:
        return scheduled
    start, target, anneal = first_step(averaging, total), averaging.lr / optimizer.lr, averaging.anneal

    def factor(step: int) -> float:
        if step < start:
            return scheduled(step)
        done = min(1.0, (step - start) / anneal) if anneal else 1.0
        return target + (scheduled(start) - target) * (1 + math.cos(math.pi * done)) / 2

    return factor


@torch.no_grad()
def _renew(
    network: Network, norms: list[nn.Module], batches: Iterable[Batch], device: torch.device, precision: str
) -> None:
    """Mean and variance over all batches alike, as `torch.optim.swa_utils.update_bn`, and without dropout."""
    before = [norm.momentum for norm in norms]
    with evaluation_mode(network), autocast(device, precision):
        for norm in norms:
            assert isinstance(norm, _BatchNorm)
            norm.reset_running_stats()
            norm.momentum, norm.training = None, True
        for batch in batches:
            on_device = to_device(batch, device)
            network(on_device["inputs"], on_device.get("present", {}))
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum, norm.training = momentum, False
