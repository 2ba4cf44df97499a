"""The linear layer of every block: one place to choose the fastest product that the machine has.

In float32 torch multiplies matrices with MKL, which runs at half speed on some processors; oneDNN, in the same wheel,
does not. Where a short measurement at first use finds oneDNN faster, large products take it. It is the same float32
arithmetic in another order.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST_SIDE = 96
"""Products with a shorter side are left to torch: there oneDNN's backward is slower."""


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


@lru_cache(maxsize=1)
def onednn_is_faster() -> bool:
    """Whether oneDNN beats torch's default by a quarter on a product of medium size; EIR_SEQ_ONEDNN=0/1 decides it."""
    if (forced := os.environ.get("EIR_SEQ_ONEDNN")) in ("0", "1"):
        return forced == "1"
    try:
        x, weight = torch.randn(1024, 512), torch.randn(512, 512)
        durations = []
        for multiply in (F.linear, _onednn):
            multiply(x, weight, None)
            best = float("inf")
            for _ in range(5):
                start = time.perf_counter()
                multiply(x, weight, None)
                best = min(best, time.perf_counter() - start)
            durations.append(best)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return durations[1] * 1.25 < durations[0]


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        flat = gradients[0].reshape(-1, gradients[0].shape[-1]).contiguous()
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = _onednn(flat, weight.t().contiguous(), None).view_as(x)
        if ctx.needs_input_grad[1]:
            grad_weight = _onednn(flat.t().contiguous(), x.reshape(-1, x.shape[-1]).t().contiguous(), None)
        if ctx.has_bias and ctx.needs_input_grad[2]:
            grad_bias = flat.sum(0)
        return grad_x, grad_weight, grad_bias


class Linear(nn.Linear):
    """x W^T + b."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        rows = x.numel() // max(x.shape[-1], 1)
        if (
            x.dtype is torch.float32
            and x.device.type == "cpu"
            and min(rows, self.in_features, self.out_features) >= SMALLEST_SIDE
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and onednn_is_faster()
        ):
            product: Tensor = _OneDnnLinear.apply(x.contiguous(), self.weight, self.bias)
            return product
        return F.linear(x, self.weight, self.bias)
