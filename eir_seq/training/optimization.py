"""Optimizers, their parameter groups, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from eir_seq.config.optimization import OptimizerBase, SchedulerBase, SchedulerConfig
from eir_seq.config.schema import TrainerConfig
from eir_seq.errors import Fault, UserError
from eir_seq.registry import imported
from eir_seq.training.optimizers import Groups

ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = 1 / 25 / 1e4


def steps_per_epoch(batches: int, accumulate: int) -> int:
    """Optimizer steps in an epoch; the last one may stand for fewer than `accumulate` batches."""
    return math.ceil(batches / accumulate)


def total_steps(config: TrainerConfig, batches_per_epoch: int) -> int:
    """Optimizer steps of the whole run: the earlier of its two limits.

    Raises:
        UserError: the run has no limit.
    """
    limits = []
    if config.max_epochs is not None:
        limits.append(config.max_epochs * steps_per_epoch(batches_per_epoch, config.accumulate))
    if config.max_steps is not None:
        limits.append(config.max_steps)
    if not limits:
        raise UserError(Fault("trainer.max_epochs", "max_epochs and max_steps are both null; the run would never end"))
    return min(limits)


def build_optimizer(
    network: nn.Module, config: OptimizerBase, *, fused: bool = True, beside: Iterable[nn.Parameter] = ()
) -> Optimizer:
    """The optimizer over all trainable parameters of `network`.

    Args:
        network: a module; where it holds a backbone with ``layer_of``, `layer_decay` applies to that one's layers.
        config: which optimizer, and its options.
        fused: use the fused AdamW kernel (not possible under a gradient scaler that also clips).
        beside: parameters that are trained, too, at the full learning rate and without weight decay.

    Raises:
        UserError: nothing is trainable, or nesterov without momentum.
    """
    groups = parameter_groups(network, config, beside)
    optimizer: Optimizer = imported(config.IMPLEMENTATION)(config, groups, fused)
    return optimizer


def parameter_groups(network: nn.Module, config: OptimizerBase, beside: Iterable[nn.Parameter] = ()) -> Groups:
    """Trainable parameters by weight decay and learning rate, those of `beside` with the vectors.

    Vectors (biases, norms) are not decayed. With `layer_decay`, layer ``i`` of ``L`` backbone layers learns at
    ``lr * layer_decay ** (L + 1 - i)`` and the embeddings, layer 0, slowest; what stands above the layers learns at
    ``lr`` (Bao et al. 2022, arXiv:2106.08254, appendix). Where the optimizer wants it, the matrices of hidden layers
    have groups of their own.

    Raises:
        UserError: nothing is trainable.
    """
    scales = dict(_layer_scales(network, config.layer_decay)) if config.layer_decay is not None else {}
    matrices = hidden_matrices(network) if config.MATRICES else set()
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((scales.get(name, 1.0), decay, name in matrices), []).append(parameter)
    if not groups:
        raise UserError("every parameter of the network is frozen; there is nothing to train")
    for parameter in beside:
        groups.setdefault((1.0, 0.0, False), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.lr * scale,
            "weight_decay": decay,
            **({"matrices": matrix} if config.MATRICES else {}),
        }
        for (scale, decay, matrix), parameters in sorted(groups.items(), key=lambda group: group[0])
    ]


def hidden_matrices(network: nn.Module) -> set[str]:
    """Names of the matrices of hidden layers: not of embeddings, heads, or what a backbone has above its layers."""
    outer: set[int] = set()
    for name, module in network.named_modules():
        if isinstance(module, nn.Embedding):
            outer |= set(map(id, module.parameters(recurse=False)))
        if name == "heads":
            outer |= set(map(id, module.parameters()))
        if (layer_of := getattr(module, "layer_of", None)) is not None:
            outer |= {id(parameter) for own, parameter in module.named_parameters() if not layer_of(own)}
    return {name for name, p in network.named_parameters() if p.dim() == 2 and id(p) not in outer}


def _layer_scales(network: nn.Module, factor: float) -> Iterator[tuple[str, float]]:
    for prefix, module in network.named_modules():
        layer_of: Callable[[str], int | None] | None = getattr(module, "layer_of", None)
        if layer_of is None:
            continue
        layers = {name: layer_of(name) for name, _ in module.named_parameters()}
        top = max((layer for layer in layers.values() if layer is not None), default=0)
        for name, layer in layers.items():
            if layer is not None:
                yield (f"{prefix}.{name}" if prefix else name), factor ** (top + 1 - layer)


def learning_rate_factor(config: SchedulerBase, total: int) -> Callable[[int], float]:
    """The factor on the learning rate as a function of the steps done, for a run of `total` steps."""
    factor: Callable[[int], float] = imported(config.IMPLEMENTATION)(config, total)
    return factor


def warmup_and_decay(config: SchedulerConfig, total: int) -> Callable[[int], float]:
    """The factor on the learning rate as a function of the steps done, for a run of `total` steps.

    linear and cosine fall to `final_ratio` behind the warm-up. one-cycle (Smith and Topin 2019, arXiv:1708.07120)
    rises from 1/25 of the rate and ends at 1/250,000 of it, along cosines.
    """
    warmup = config.warmup if isinstance(config.warmup, int) else round(config.warmup * total)
    falling = max(1, total - warmup)

    def factor(step: int) -> float:
        if step < warmup:
            if config.type == "one-cycle":
                return _cosine(ONE_CYCLE_START, 1.0, step / warmup)
            return (step + 1) / (warmup + 1)  # the first step moves, too
        done = min(1.0, (step - warmup) / falling)
        if config.type == "constant":
            return 1.0
        if config.type == "linear":
            return 1.0 + (config.final_ratio - 1.0) * done
        if config.type == "cosine":
            return _cosine(1.0, config.final_ratio, done)
        return _cosine(1.0, ONE_CYCLE_END, done)

    return factor


def schedule_steps(
    config: SchedulerBase, lr: float, *, before: int | None, step: int, total: int
) -> tuple[int, str | None]:
    """The steps that the schedule of a run covers, and what is to be said about it.

    Args:
        config: the schedule.
        lr: the learning rate after the warm-up.
        before: steps that the schedule covered when the run was last saved; None for a new run.
        step: optimizer steps done.
        total: optimizer steps of the whole run, by its present limits.

    Raises:
        UserError: the rest of the run would be trained at a rate of 0.
    """
    if before is None or before == total:
        return total, None
    if step >= total:  # nothing is left to train
        return (before if config.extend == "continue" else total), None
    old = learning_rate_factor(config, before)
    if config.extend == "continue":
        if total > before and old(total - 1) == 0:
            raise UserError(
                Fault(
                    "scheduler.extend",
                    f"'continue' would train from step {max(step, before) + 1:,} to {total:,} at a learning rate of 0, "
                    f"with which the {config.type} schedule of {before:,} steps ends; 'rescale' begins again above 0",
                )
            )
        return before, (
            f"the learning rate keeps the schedule of {before:,} steps (scheduler.extend=continue): "
            f"{lr * old(step):.3g} at step {step + 1:,}, {lr * old(total - 1):.3g} at step {total:,}"
        )
    was, now = lr * old(step), lr * learning_rate_factor(config, total)(step)
    if was == now:
        return total, None
    return total, (
        f"warning: the schedule of {before:,} steps is now one of {total:,}: the learning rate at step {step + 1:,} is "
        f"{now:.3g} instead of {was:.3g} (scheduler.extend=continue keeps the former schedule)"
    )


def build_scheduler(
    optimizer: Optimizer, config: SchedulerBase, total: int, factor: Callable[[int], float] | None = None
) -> LambdaLR:
    """A scheduler to be stepped once per optimizer step; `factor` takes the place of that of the config."""
    return LambdaLR(optimizer, factor or learning_rate_factor(config, total))


def set_rates(scheduler: LambdaLR) -> None:
    """Give the optimizer the rates that its schedule has now; for factors that have changed since the last step."""
    factors = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    for group, (rate, factor) in zip(scheduler.optimizer.param_groups, factors, strict=True):
        group["lr"] = rate * factor(scheduler.last_epoch)


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
