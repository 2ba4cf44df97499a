"""Models that cannot be: larger than the memory, or than the file that they are to be read from.

Both are reported while the model is built, at the first parameter that exceeds the bound, before memory is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from eir_seq.errors import Fault, UserError

GIGABYTE = 1 << 30
NUMBERS_PER_NUMBER, FRESH_NUMBERS = 4, 1 << 22
"""Numbers in parameters for each in a file (tied ones are counted at each place), and in addition to them."""
TENSORS_PER_TENSOR, FRESH_TENSORS = 64, 1000
"""Parameters that may be made of one in a file (experts that are published as one tensor), and in addition to them."""


@contextmanager
def bounded_by_memory() -> Iterator[None]:
    """Raise `UserError` where the weights of the model that is built here do not fit into this machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    total = 0

    def count(parameter: Tensor) -> None:
        nonlocal total
        total += parameter.nbytes if parameter.device.type == "cpu" else 0
        if total > memory:
            message = f"the weights need more than {total / GIGABYTE:,.0f} GB of memory, of which this machine has"
            raise UserError(Fault("model_init_config", f"{message} {memory / GIGABYTE:,.0f}; lower the model's sizes"))

    try:
        with _counted(count):
            yield
    except RuntimeError as error:  # a single tensor, before it becomes a parameter
        if not any(words in str(error) for words in ("allocate memory", "overflow")):
            raise
        message = (
            "a tensor of these sizes does not fit into memory; lower the model's sizes (vocab_size, hidden_size ...)"
        )
        raise UserError(Fault("model_init_config", message)) from error


@contextmanager
def bounded_by_file(tensors: int, source: str) -> Iterator[None]:
    """Raise `UserError` where a model has far more parameters than the `tensors` of the file `source`."""
    most = FRESH_TENSORS + TENSORS_PER_TENSOR * tensors
    found = 0

    def count(_: Tensor) -> None:
        nonlocal found
        found += 1
        if found > most:
            message = f"the options of its config.json make more than {most:,} tensors, and its weights are {tensors:,}"
            raise UserError(Fault(source, message))

    with _counted(count):
        yield


@contextmanager
def bounded_by_weights(elements: int, source: str) -> Iterator[None]:
    """Raise `UserError` where the modules built here have far more numbers than `elements`, which are to fill them."""
    most = FRESH_NUMBERS + NUMBERS_PER_NUMBER * elements
    found = 0

    def count(parameter: Tensor) -> None:
        nonlocal found
        found += parameter.numel()
        if found > most:
            message = f"its config describes weights of more than {most:,} numbers, and its files hold {elements:,}"
            raise UserError(Fault(source, message))

    with _counted(count):
        yield


@contextmanager
def _counted(count: Callable[[Tensor], None]) -> Iterator[None]:
    """Pass every parameter to `count` as it gets its place in a module."""

    def registered(_: nn.Module, __: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            count(parameter)

    hook = register_module_parameter_registration_hook(registered)
    try:
        yield
    finally:
        hook.remove()
