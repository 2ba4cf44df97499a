"""Look at an experiment before it is run: its data, one step, and what the whole run would take."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.batching import batch_costs
from eir_seq.errors import RunFailed
from eir_seq.modalities.base import LENGTH
from eir_seq.training.assemble import Parts, assemble, resolved
from eir_seq.training.attributions import check_interpretations, interpretations_of, most_gradients
from eir_seq.training.console import Console, duration
from eir_seq.training.devices import batch_shape, device_count, memory_failure, out_of_memory
from eir_seq.training.evaluation import Batch, autocast
from eir_seq.training.kernels import describe_kernels
from eir_seq.training.latents import check_layers
from eir_seq.training.objective import batch_loss
from eir_seq.training.optimization import build_optimizer, total_steps
from eir_seq.training.preflight import check_config, check_parts
from eir_seq.training.ranks import Ranks
from eir_seq.training.threads import threads_for

MEASURED = (0.0, 0.5, 0.85, 1.0)
"""Batches whose steps are timed, as shares of all batches in order of their cost; of equal cost, two of them."""
PRODUCT = 512
"""Rows and columns of the matrices that are multiplied to compare precisions."""
SHOWN = 10
"""Items of a list that are printed."""


@dataclass(frozen=True)
class CheckResult:
    """What `check` found; as text, a report for people."""

    rows: dict[str, int]
    skipped: int
    missing: tuple[str, ...]
    """What rows lack, a line for each input and output."""
    inputs: dict[str, dict[str, Any]]
    tokens: dict[str, dict[str, int]]
    """Tokens after truncation by input and split."""
    fusion: str | None
    """The fusion of the inputs; None if no output reads it."""
    outputs: dict[str, dict[str, Any]]
    connections: list[dict[str, str]]
    """Messages and adversaries, see `eir_seq.broker.Broker.describe`."""
    parameters: dict[str, int]
    loss: float
    """Loss of the first step on two rows."""
    batches_per_epoch: int
    steps: int
    folds: int
    """How many models are trained; 1 without cross-validation."""
    timed_steps: int
    """Steps from which times are estimated."""
    step_seconds: float
    """Estimated mean over the batches of an epoch."""
    run_seconds: float
    """Estimate for all folds."""
    memory_bytes: int
    """Weights, gradients and optimizer state, and the activations of the longest batch."""
    device: str
    kernels: str | None
    """What the CPU computes with besides torch's operations."""
    threads: str | None
    """How many compute, if not all."""
    processes: int
    """That share each batch; steps and memory are those of one of them."""
    warnings: tuple[str, ...]
    explained: str | None = None
    """What explaining rows costs."""
    precision: str | None = None
    """What is to be said of `trainer.precision`, if float32 is faster here."""

    def __str__(self) -> str:
        folds = f"{self.folds} folds of " if self.folds > 1 else ""
        shared = f", each shared by {self.processes} processes" if self.processes > 1 else ""
        lines = [
            _line("rows", ", ".join(f"{split} {rows:,}" for split, rows in self.rows.items())),
            *([_line("left out", f"{self.skipped:,} rows that cannot be used")] if self.skipped else []),
        ]
        lines += [_line("missing", line) for line in self.missing]
        for name, described in self.inputs.items():
            lines.append(_line(f"inputs.{name}", _described(described)))
            if self.tokens[name]:
                lines.append(_line("  tokens", ", ".join(f"{split} {n:,}" for split, n in self.tokens[name].items())))
        if self.fusion is not None:
            lines.append(_line("fusion", self.fusion))
        lines += [_line(f"outputs.{name}", _described(described)) for name, described in self.outputs.items()]
        lines += [_line(part["name"], _connection(part)) for part in self.connections]
        lines += [_line("parameters", f"{self.parameters['total']:,} ({self.parameters['trainable']:,} trained)")]
        lines += [
            _line(f"  {part}", f"{count:,}")
            for part, count in self.parameters.items()
            if part not in ("total", "trainable")
        ]
        lines += [
            _line("one step", f"on two rows, loss {self.loss:.4f}"),
            _line("the run", f"{folds}{self.steps:,} steps, {self.batches_per_epoch:,} batches per epoch{shared}"),
            _line("memory", f"about {_bytes(self.memory_bytes)} on {self.device}, without the data"),
            *([_line("kernels", self.kernels)] if self.kernels else []),
            *([_line("threads", self.threads)] if self.threads else []),
            _line(
                "time",
                f"about {duration(self.run_seconds)} at {self.step_seconds * 1000:.0f} ms a step, "
                f"an estimate from {self.timed_steps} steps",
            ),
            *([_line("explained", self.explained)] if self.explained else []),
            *([_line("precision", self.precision)] if self.precision else []),
            "all is well" + (" but for the warnings above" if self.warnings else ""),
        ]
        return "\n".join(lines)


def check(config: ExperimentConfig) -> CheckResult:
    """Read the data, fit inputs and outputs, build the network, and try steps.

    Raises:
        UserError: config or data are invalid.
        RunFailed: the first step's loss is not finite, or memory does not suffice.
    """
    device, monitor = check_config(config)
    if config.callbacks:
        from eir_seq.training.callbacks import build_callbacks

        build_callbacks(config)
    with Console() as console:
        config = resolved(config, console)
        processes = device_count(config.trainer, device) * config.trainer.num_nodes
        parts = assemble(config, console, ranks=Ranks(0, processes))
    if config.trainer.latents is not None:
        check_layers(parts.network, config.trainer.latents, parts.outputs, "trainer.latents")
    if interpreted := interpretations_of(config.inputs):
        check_interpretations(interpreted, parts.network, parts.inputs, parts.outputs, parts.data.encoded)
    check_parts(config, parts.splits, parts.outputs, monitor, parts.targets)
    steps = total_steps(config.trainer, parts.data.batches_per_epoch)
    train = parts.data.encoded["train"]
    planned = parts.data.trial_keys()
    costs = batch_costs(train.lengths, planned.batches)
    chosen = tried_batches(costs)
    folds = config.data.folds if config.data.folds is not None and config.data.fold is None else 1
    available = torch.get_num_threads()
    with threads_for(config, parts.network, parts.outputs, parts.data, device) as threads:
        trial = _Trial(config, parts, device)
        loss = trial.step(train[type(planned[0])(planned[0].rows[:2], 0)]).loss
        trial.begin()
        tried = [trial.step(train[planned[index]]) for index in chosen[:-1]]
        memory, costliest = trial.memory_of(train[planned[chosen[-1]]])
    tried.append(costliest)
    seconds = float(np.interp(costs, costs[chosen], [step.seconds for step in tried]).mean())
    step_seconds = seconds * config.trainer.accumulate
    evaluation = 0.0
    if "validation" in parts.data.encoded:
        batches = parts.data.evaluation_keys("validation").batches
        found = batch_costs(parts.data.encoded["validation"].lengths, batches)
        evaluation = float(np.interp(found, costs[chosen], [step.forward_seconds for step in tried]).sum())
    return CheckResult(
        rows=parts.splits.counts,
        skipped=len(parts.splits.skipped),
        missing=tuple(parts.splits.said_missing),
        inputs={name: fitted.describe() for name, fitted in parts.inputs.items()},
        tokens={
            name: {
                split: int(encoded.numbers(name, LENGTH).sum())
                for split, encoded in parts.data.encoded.items()
                if LENGTH in encoded.inputs[name].features
            }
            for name in parts.inputs
        },
        fusion=None if parts.network.fusion is None else config.fusion.describe(list(config.inputs)),
        outputs={name: output.describe() for name, output in parts.outputs.items()},
        connections=[] if parts.network.broker is None else parts.network.broker.describe(),
        parameters=parts.network.count_parameters(),
        loss=loss,
        batches_per_epoch=parts.data.batches_per_epoch,
        steps=steps,
        folds=folds,
        timed_steps=len(tried),
        step_seconds=step_seconds,
        run_seconds=folds * (steps * step_seconds + _evaluations(config, parts, steps) * evaluation),
        memory_bytes=memory,
        device=str(device),
        kernels=describe_kernels(device),
        threads=None if threads == available else f"{threads} of {available}: for steps of this size more do not pay",
        processes=processes,
        warnings=(*parts.splits.warnings, *parts.data.warnings),
        explained=_explained(config, parts),
        precision=slow_precision(str(config.trainer.precision), device),
    )


def tried_batches(costs: NDArray[Any]) -> list[int]:
    """The batches whose steps are timed, the costliest last.

    Of those of equal cost the last one is the estimate, after another one that gets the memory for it.

    >>> tried_batches(np.array([3, 1, 3, 3, 2])), tried_batches(np.array([5, 5, 5, 5, 1]))
    ([1, 2, 3], [4, 2, 3])
    """
    order = np.argsort(costs, kind="stable")
    chosen = [int(order[round(share * (len(order) - 1))]) for share in MEASURED]
    return [
        batch for place, batch in enumerate(chosen, 2) if place >= len(chosen) or costs[batch] < costs[chosen[place]]
    ]


def _explained(config: ExperimentConfig, parts: Parts) -> str | None:
    """How many rows are explained, and how many gradients that takes at most."""
    wanted = interpretations_of(config.inputs)
    if not wanted:
        return None
    rows = len(next(encoded for split in ("test", "validation") if (encoded := parts.data.encoded.get(split))))
    explained, gradients = most_gradients(wanted, parts.outputs, rows)
    return f"up to {explained:,} explanations of rows, with up to {gradients:,} gradients of single rows"


@dataclass(frozen=True)
class _Step:
    """A step that was tried: its loss, and the seconds of all of it and of the forward pass alone."""

    loss: float
    seconds: float
    forward_seconds: float


class _Trial:
    """Tries steps; the network learns a little and is discarded."""

    def __init__(self, config: ExperimentConfig, parts: Parts, device: torch.device) -> None:
        self.config = config
        self.outputs = parts.outputs
        self.device = device
        self.network = parts.network.to(device)
        self.optimizer = build_optimizer(self.network, config.optimizer)
        self._resident = 0

    def begin(self) -> None:
        """Measure memory from here, where weights, gradients and the state of the optimizer are there."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._resident = _peak_resident()

    def step(self, batch: Batch) -> _Step:
        """Forward, backward, optimizer."""
        try:
            start = self._now()
            with autocast(self.device, str(self.config.trainer.precision)):
                loss = batch_loss(self.network, self.outputs, batch, self.device)
            if not bool(loss.isfinite()):
                raise RunFailed(f"the loss of the first step is not finite (rows {', '.join(batch['id'][:5])})")
            forward = self._now()
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            return _Step(float(loss.detach()), self._now() - start, forward - start)
        except Exception as error:
            if out_of_memory(error):
                raise memory_failure("one step", batch_shape(batch)) from error
            raise

    def memory_of(self, batch: Batch) -> tuple[int, _Step]:
        """Bytes that training needs at its costliest batch, which is tried last, and the step on it."""
        step = self.step(batch)
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device)), step
        state = sum(
            value.numel() * value.element_size()
            for held in self.optimizer.state.values()
            for value in held.values()
            if isinstance(value, torch.Tensor)
        )
        weights = sum(p.numel() * p.element_size() * (2 if p.requires_grad else 1) for p in self.network.parameters())
        return weights + state + _peak_resident() - self._resident, step

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _evaluations(config: ExperimentConfig, parts: Parts, steps: int) -> float:
    """How often the validation rows are evaluated, with the best weights in the end."""
    settings = config.trainer
    epochs = steps / -(-parts.data.batches_per_epoch // settings.accumulate)
    return 1 + (epochs if settings.validate_every is None else steps / settings.validate_every)


def slow_precision(precision: str, device: torch.device) -> str | None:
    """What is to be said where this processor multiplies bfloat16 more slowly than float32.

    Some have AVX-512 instructions for it that do half as much per cycle. Most of the time of a model is in products.
    """
    if precision != "bf16-mixed" or device.type != "cpu":
        return None
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        factor = torch.ones(PRODUCT, PRODUCT, dtype=dtype)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            factor @ factor
            times.append(time.perf_counter() - start)
        seconds[dtype] = min(times)
    ratio = seconds[torch.float32] / seconds[torch.bfloat16]
    if ratio > 1:
        return None
    return f"bfloat16 products are {ratio:.1f} times as fast as float32 here; trainer.precision=32 is faster"


def _peak_resident() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _line(name: str, text: str) -> str:
    return f"{name:<20} {text}"


def _connection(part: Mapping[str, str]) -> str:
    reads, gets = f"{part['from']} ({part['shape']})", f"{part['to']} ({part['target shape']})"
    return f"{reads} -> {part['how']} -> {gets}, {part['parameters']} parameters"


def _described(described: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in described.items() if value is not None)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return _listed([f"{key} {_value(item)}" for key, item in value.items()])
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _listed([_value(item) for item in value])
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - SHOWN:,} more" if len(texts) > SHOWN else ""
    return f"({', '.join(texts[:SHOWN])}{more})"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
