"""What attention promises besides the parity of models."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from eir_seq.models.layers.attention.multi_head import LEAST_BLOCK, Attention
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.layout import Layout


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


@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("window", [5, 300])
@pytest.mark.parametrize("causal", [True, False])
def test_windows_block_by_block(causal: bool, window: int, padding: str) -> None:
    """Long texts, whose queries are taken in blocks, see what their mask as a whole leaves them."""
    length = 2 * LEAST_BLOCK + 90
    torch.manual_seed(0)
    attention = Attention.Config(hidden_size=8, num_heads=2, causal=causal, window=window).build()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    mask = torch.ones(1, length, dtype=torch.bool)
    if padding != "none":
        mask[:, slice(0, 40) if padding == "left" else slice(length - 40, length)] = False

    def context(**more: list[torch.Tensor]) -> Context:
        layout = Layout.padded(1, length, mask)
        return Context(layout=layout, positions=torch.arange(length)[None], keys=mask, **more)

    x, weights = torch.randn(1, length, 8), list[torch.Tensor]()
    whole = attention(x, context(attentions=weights))
    torch.testing.assert_close(attention(x, context())[mask], whole[mask], atol=1e-5, rtol=1e-5)
    apart = torch.arange(length)[:, None] - torch.arange(length)
    near = (apart.abs() < window) & mask & ((apart >= 0) | torch.tensor(not causal))
    assert torch.equal(weights[0][0, 0][mask[0]] > 0, near[mask[0]])
