"""What attention promises besides the parity of models."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("masked", [False, True])
def test_kernels_keep_scores_in_float32(dtype: torch.dtype, masked: bool) -> None:
    """`float32_scores` leaves the kernels as they are: large scores in half precision would be off by much more."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 4, 64, 32, generator=generator) * size for size in (6, 6, 1))
    query, key, value = (x.to(dtype) for x in (query, key, value))
    past = torch.ones(64, 64, dtype=torch.bool).tril()
    exact = F.scaled_dot_product_attention(query.double(), key.double(), value.double(), is_causal=True)
    half = (query @ key.mT * 32**-0.5).masked_fill(~past, torch.finfo(dtype).min).softmax(-1) @ value
    fused = F.scaled_dot_product_attention(query, key, value, past if masked else None, is_causal=not masked)
    rounding = float((exact.to(dtype).double() - exact).abs().max())
    assert float((fused.double() - exact).abs().max()) < 3 * rounding
    assert float((half.double() - exact).abs().max()) > 10 * rounding
