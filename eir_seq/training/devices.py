"""Where and how precisely to compute: settled, and refused, before anything is built."""

from __future__ import annotations

import torch

from eir_seq.config.schema import GPU_PRECISIONS, TrainerConfig
from eir_seq.errors import Fault, RunFailed, UserError

MOST_PROCESSES = 256
"""Processes that compute on the CPUs of one machine."""


def pick_device(accelerator: str, index: int = 0) -> torch.device:
    """The device that `trainer.accelerator` stands for on this machine.

    Args:
        accelerator: gpu, mps, cpu, or auto, the fastest available.
        index: which of several GPUs.

    Raises:
        UserError: the machine has no such device.
    """
    available = {
        "gpu": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    there = [kind for kind, present in available.items() if present]
    name = there[0] if accelerator == "auto" else accelerator
    if not available[name]:
        message = f"{name!r} is not available on this machine (there is: {', '.join(there)})"
        raise UserError(Fault("trainer.accelerator", message))
    return torch.device("cuda", index) if name == "gpu" else torch.device(name)


def check_precision(config: TrainerConfig, device: torch.device) -> None:
    """Refuse a precision in which the device cannot train; models that were trained in it predict in float32 there.

    Raises:
        UserError: it needs a GPU.
    """
    if config.precision in GPU_PRECISIONS and device.type != "cuda":
        message = f"{config.precision!r} needs a CUDA GPU, the run is on {device.type}; use '32' or 'bf16-mixed'"
        raise UserError(Fault("trainer.precision", message))


def device_count(config: TrainerConfig, device: torch.device) -> int:
    """The number of processes on each machine, `trainer.devices`; auto: all GPUs, or one process.

    Raises:
        UserError: this machine does not have as many devices.
    """
    most = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device.type, MOST_PROCESSES)
    if not isinstance(config.devices, int):
        return most if device.type == "cuda" else 1
    if config.devices > most:
        has = f"a run on {device.type} has {most} at most" if device.type != "cuda" else f"this machine has {most} GPUs"
        raise UserError(Fault("trainer.devices", f"{config.devices}, but {has}"))
    return config.devices


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, on any device."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and not isinstance(error, RunFailed)
        and ("out of memory" in text or "can't allocate memory" in text or "not enough memory" in text)
    )


def memory_failure(what: str, batch: str) -> RunFailed:
    """The error that ends a run which met `out_of_memory`."""
    return RunFailed(
        f"out of memory in {what} ({batch}); lower data.batch_size or data.max_tokens (trainer.accumulate keeps the "
        "effective size), max_length, or use trainer.precision=bf16-mixed"
    )


def batch_shape(batch: object) -> str:
    """``batch of 32 rows; review.input_ids 32 x 512``: the sizes of a batch, for an error message."""
    if not isinstance(batch, dict) or "id" not in batch:
        return "batch unknown"
    sizes = []
    for name, tensors in batch["inputs"].items():
        if not tensors:  # no row has it
            continue
        largest = max(tensors.items(), key=lambda item: item[1].numel())
        sizes.append(f"{name}.{largest[0]} {' x '.join(map(str, largest[1].shape))}")
    return f"batch of {len(batch['id'])} rows; {', '.join(sizes)}"
