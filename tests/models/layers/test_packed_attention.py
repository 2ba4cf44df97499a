"""Attention of packed texts is that of each text by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eir_seq.models.layers.attention.packed import DistanceBias, PackedBias, packed_attention

LENGTHS, MEMORY = (3, 1, 8, 8, 5), (4, 7, 2, 2, 1)


def reference(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool, window: int | None, bias: Tensor | None, scale: float
) -> Tensor:
    """One text, spelled out: (queries, heads, head_size) and (keys, kv_heads, head_size) -> that of the queries."""
    key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], 1) for x in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key) * scale
    apart = torch.arange(len(key)) - torch.arange(len(query))[:, None]
    look = torch.ones_like(apart, dtype=torch.bool)
    if bias is not None:
        scores = scores + bias
    if causal:
        look = look & (apart <= 0)
    if window is not None:
        look = look & (apart.abs() < window)
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~look, float("-inf")).softmax(-1), value)


@pytest.mark.parametrize("bias", ["none", "dense", "distances"])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize(("causal", "crossing"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_outputs_and_gradients(kv_heads: int, causal: bool, crossing: bool, window: int | None, bias: str) -> None:
    if crossing and (window is not None or bias == "distances"):
        pytest.skip("distances to another text mean nothing")
    generator = torch.Generator().manual_seed(0)
    keys = MEMORY if crossing else LENGTHS

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)

    query, key, value = draw(sum(LENGTHS), 4, 6), draw(sum(keys), kv_heads, 6), draw(sum(keys), kv_heads, 6)
    leaves, given, dense = [query, key, value], None, [None] * len(keys)  # type: ignore[var-annotated]
    if bias == "distances":
        given = DistanceBias(draw(4, 15), 7)
        leaves, dense = [*leaves, given.values], [given.dense(n, n) for n in keys]  # type: ignore[misc]
    elif bias == "dense":
        given = [draw(4, n, m) for n, m in zip(LENGTHS, keys, strict=True)]  # type: ignore[assignment]
        leaves, dense = [*leaves, *given], list(given)  # type: ignore[misc]
    wanted_bias: PackedBias | None = given
    found = packed_attention(
        query, key, value, LENGTHS, keys, causal=causal, window=window, bias=wanted_bias, scale=0.3
    )
    texts = zip(query.split(LENGTHS), key.split(keys), value.split(keys), dense, strict=True)
    parts = [reference(q, k, v, causal=causal, window=window, bias=b, scale=0.3) for q, k, v, b in texts]
    torch.testing.assert_close(found, torch.cat(parts))
    direction = draw(*found.shape).detach()
    gradients = [torch.autograd.grad(x, leaves, direction, retain_graph=True) for x in (found, torch.cat(parts))]
    torch.testing.assert_close(*gradients)
