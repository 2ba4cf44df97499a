"""How many threads of the CPU a training uses, where nothing says it.

Every operation is divided among threads, which costs some microseconds of waiting. Below a certain size of the steps
further threads make them slower, see docs/speed.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.batching import batch_costs
from eir_seq.data.module import DataModule
from eir_seq.native.library import available, without
from eir_seq.outputs.base import FittedOutput
from eir_seq.training.evaluation import evaluation_mode
from eir_seq.training.network import Network
from eir_seq.training.objective import batch_loss
from eir_seq.training.rehearsal import unchanged

WORK, WORK_OF_KERNELS = 7e8, 1.5e8
"""Floating-point operations of a forward pass per thread, with torch's operations and with native kernels."""
LARGE = 2**23
"""Parameters from which a network gets all threads without a look at its operations."""
BATCHES, ROWS = 1000, 4
"""Batches that are compared by their cost, and rows of one of them whose operations are counted."""


@contextmanager
def threads_for(
    config: ExperimentConfig,
    network: Network,
    outputs: Mapping[str, FittedOutput],
    data: DataModule,
    device: torch.device,
) -> Iterator[int]:
    """Use as many threads as the steps are worth, and gives their number; afterwards there are as many as before.

    `trainer.threads` and `OMP_NUM_THREADS` take precedence, and several processes divide the machine among them. The
    number depends on the experiment, its data and the machine alone, so that the same command gives the same bits.
    """
    before = torch.get_num_threads()
    given = config.trainer.threads is not None or "OMP_NUM_THREADS" in os.environ or data.world_size > 1
    if not given and before > 1 and device.type == "cpu" and sum(p.numel() for p in network.parameters()) < LARGE:
        work = WORK_OF_KERNELS if available() else WORK
        torch.set_num_threads(max(1, min(before, int(operations(network, outputs, data) / work))))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def operations(network: Network, outputs: Mapping[str, FittedOutput], data: DataModule) -> float:
    """Floating-point operations of the linear layers and convolutions in a forward pass of a batch of median cost.

    They are those of a few of its rows, times its rows, in torch's operations, which the counter knows.
    """
    keys, train = data.trial_keys()[:BATCHES], data.encoded["train"]
    costs = batch_costs(train.lengths, keys.batches)
    key = keys[int(costs.argsort(kind="stable")[len(costs) // 2])]
    few = train[type(key)(key.rows[:ROWS], key.epoch)]
    cpu = torch.device("cpu")
    with unchanged(network, cpu), evaluation_mode(network), torch.no_grad(), without(), _Counter() as counter:
        batch_loss(network, outputs, few, cpu)
    return float(counter.operations * len(key.rows) / len(few["id"]))


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the floating-point operations that torch's formulas know; torch's own mode imports its compiler."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0.0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.operations += formula(*args, **kwargs, out_val=out)
        return out
