"""``bench --kernels``: which of two libraries multiplies matrices faster, by layout and size."""

from __future__ import annotations

import os

import torch

from eir_seq.commands.tables import print_table
from eir_seq.errors import Fault, UserError
from eir_seq.models.layers import kernels
from eir_seq.models.layers.kernels import GAIN, SIZES, SWITCH, Kernels


def show_kernels(threads: int) -> None:
    """Measure, keep what was found where this machine uses it, and print a table.

    Raises:
        UserError: there is one library only.
    """
    torch.set_num_threads(threads)
    if not kernels.onednn_is_available():
        raise UserError(Fault("--kernels", "this build of torch has no oneDNN", "command line"))
    measured, chooses = kernels.measure(), kernels.may_gain()
    choice = (
        kernels.stored(measured=measured) if chooses else Kernels(kernels.least_of(measured), kernels.machine_name())
    )
    rows = []
    for (layout, narrow), ratios in measured.items():
        least = choice.least[layout][narrow]
        from_on = "never" if least is None else f"from 2^{least}"
        rows.append([f"{layout}, narrow" if narrow else layout, *(f"{ratio:.2f}" for ratio in ratios), from_on])
    sizes = [f"2^{size}" for size in SIZES]
    print_table(["product", *sizes, "oneDNN pays"], rows, right=sizes)
    print(
        f"Seconds of torch's default by those of oneDNN, by multiplications; it pays from {GAIN} on. {choice.machine}"
    )
    if not chooses:
        print("Not kept: on this processor torch's default is always taken.")
    elif SWITCH in os.environ:
        print(f"The environment decides here: {SWITCH}={os.environ[SWITCH]}")
