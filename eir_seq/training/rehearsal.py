"""The costliest batches of a run, tried after its first step.

A batch that is too large for memory ends the run at once and not in its third hour, and an allocator that has met the
largest blocks first finds room for all others: resident memory is after a few steps what it will be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from eir_seq.outputs.base import FittedOutput
from eir_seq.training.devices import batch_shape, memory_failure, out_of_memory
from eir_seq.training.evaluation import Batch, autocast, evaluation_mode, to_device
from eir_seq.training.network import Network
from eir_seq.training.objective import batch_loss


def rehearse(
    network: Network,
    outputs: Mapping[str, FittedOutput],
    train: Batch | None,
    evaluated: Batch | None,
    *,
    device: torch.device,
    precision: str,
    accumulates: bool,
) -> None:
    """Compute gradients of one batch and the outputs of another one, and forget them.

    Weights, buffers and random numbers are afterwards what they were; there are no gradients.

    Args:
        network: the network, without gradients.
        outputs: the fitted outputs by name.
        train: a batch to learn from, or none.
        evaluated: a batch to evaluate, or none.
        device: where the network is.
        precision: the trainer's precision.
        accumulates: whether a step sums the gradients of several batches, so that there are some before a batch.

    Raises:
        RunFailed: memory does not suffice.
    """
    with unchanged(network, device):
        if train is not None:
            with _memory_of("the largest training batch", train):
                if accumulates:
                    for parameter in network.parameters():
                        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
                with autocast(device, precision):
                    loss = batch_loss(network, outputs, train, device)
                loss.backward()  # type: ignore[no-untyped-call]
                network.zero_grad()
        if evaluated is not None:
            with (
                _memory_of("the largest batch of an evaluation", evaluated),
                evaluation_mode(network),
                torch.inference_mode(),
                autocast(device, precision),
            ):
                batch = to_device(evaluated, device)
                network.run(batch)


@contextmanager
def unchanged(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Put back what forward passes in training change: statistics in buffers, and the state of random numbers."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield
    for buffer, value in before:
        buffer.copy_(value)


@contextmanager
def _memory_of(what: str, batch: Batch) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if out_of_memory(error):
            raise memory_failure(f"{what} of the run, which was tried first", batch_shape(batch)) from error
        raise
