"""The linear layer of every block: one place to choose the fastest product that the machine has.

In float32 torch multiplies matrices with MKL, which runs at half speed on AMD processors with AVX-512; oneDNN, in the
same wheel, does not. There large products take oneDNN: the same float32 arithmetic in another order. The choice
depends on the processor and on shapes alone, never on a measurement, so that a run repeats bit for bit.
``docs/speed.md`` has the measurements.

oneDNN compiles a kernel for each shape that it meets, of these products, of gelu and of everything in bfloat16, and by
default it and torch's binding keep 1024 of each kind. A packed batch hardly ever has the row count of an earlier one,
so that kept kernels are of no use, and memory grows: by them, and by the holes between them that nothing else fits in.
Both caches are bounded here, unless the environment says otherwise; layers of one pass still share kernels.
"""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.errors import Fault, UserError
from eir_seq.models.layers.lora import Lora

SMALLEST_PRODUCT = 2**22
"""Multiplications (rows x in x out) below which torch's default is as fast: it takes less to start."""
NARROWEST_INPUT = 64
"""Input widths below which oneDNN's product for the gradient of the weight is slower."""
SWITCH = "EIR_SEQ_ONEDNN"
KEPT_KERNELS = 32
"""Of each kind that oneDNN has: those of one pass through an encoder and a decoder fit, at two lengths not all do."""
for _capacity in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # read at the first use of oneDNN
    os.environ.setdefault(_capacity, str(KEPT_KERNELS))


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


@lru_cache(maxsize=1)
def onednn_is_faster() -> bool:
    """Whether large float32 products take oneDNN on this machine; the environment's EIR_SEQ_ONEDNN=0 or 1 decides it.

    Raises:
        UserError: EIR_SEQ_ONEDNN is neither 0 nor 1.
    """
    forced = os.environ.get(SWITCH)
    if forced not in (None, "0", "1"):
        raise UserError(Fault(SWITCH, f"{forced!r} is not 0 (never take oneDNN) or 1 (take it)", "environment"))
    if forced == "0" or not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return forced == "1" or (
        torch.backends.mkl.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and "AuthenticAMD" in _processor()
    )


def _processor() -> str:
    """What the system says about the processor, its maker included."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        return platform.processor()


def _gains(x: Tensor, weight: Tensor) -> bool:
    """Whether a product is of those that oneDNN does faster where it is fast at all."""
    return (
        x.numel() * weight.shape[0] >= SMALLEST_PRODUCT
        and weight.shape[1] >= NARROWEST_INPUT
        and x.dtype is weight.dtype is torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.shape[-1] == weight.shape[1]
    )


def product(x: Tensor, weight: Tensor) -> Tensor:
    """(rows, in) and (out, in) -> x W^T by the faster kernel, without gradients: for operations that have their own."""
    return _onednn(x, weight, None) if _gains(x, weight) and onednn_is_faster() else x @ weight.t()


class _OneDnnLinear(torch.autograd.Function):
    """x W^T + b with gradients by the same product; they can be differentiated again."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _onednn(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:  # noqa: ARG004
        x, weight, _ = inputs
        # each gradient needs the other factor only: a frozen weight keeps no input alive
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0]
        flat = gradient.reshape(-1, gradient.shape[-1])
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = _OneDnnLinear.apply(flat, weight.t(), None).unflatten(0, gradient.shape[:-1])
        if ctx.needs_input_grad[1]:
            grad_weight = _OneDnnLinear.apply(flat.t(), x.reshape(-1, x.shape[-1]).t(), None)
        if ctx.needs_input_grad[2]:
            grad_bias = flat.sum(0)
        return grad_x, grad_weight, grad_bias


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., in) and (out, in) -> x W^T + b by the faster kernel, with gradients."""
    if (
        not torch.compiler.is_compiling()  # first: dynamic graphs must not depend on the requested sizes
        and _gains(x, weight)
        and weight.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
        and onednn_is_faster()
    ):
        product: Tensor = _OneDnnLinear.apply(x.contiguous(), weight, bias)
        return product
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """x W^T + b, and what an adapter adds, where there is one.

    `takes_adapter`: whether one can be added; not where the weight is read in other ways.
    """

    takes_adapter = True

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.lora: Lora | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        product = linear(x, self.weight, self.bias)
        return product if self.lora is None else product + self.lora(x)

    @property
    def whole_weight(self) -> Tensor:
        """(out, in): the weight and what an adapter adds to it."""
        return self.weight if self.lora is None else self.weight + self.lora.delta()
