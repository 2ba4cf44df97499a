"""Attention of packed texts is that of each text by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eir_seq.models.layers.attention import grouping, packed, spelled_out
from eir_seq.models.layers.attention.grouping import planned
from eir_seq.models.layers.attention.packed import DistanceBias, PackedBias, packed_attention

LENGTHS, MEMORY = (3, 1, 8, 0, 8, 5), (4, 7, 2, 3, 2, 1)


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


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("bias", ["none", "dense", "distances"])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize(("causal", "crossing"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_outputs_and_gradients(kv_heads: int, causal: bool, crossing: bool, window: int | None, bias: str) -> None:
    if crossing and (window is not None or bias == "distances"):
        pytest.skip("distances to another text mean nothing")
    keys = MEMORY if crossing else LENGTHS
    query, key, value = (draw(sum(n), h, 6, seed=i) for i, (n, h) in enumerate(((LENGTHS, 4), *[(keys, kv_heads)] * 2)))
    leaves = [query, key, value]
    given: PackedBias | None = None
    dense: list[Tensor | None] = [None] * len(keys)
    if bias == "distances":
        given = DistanceBias(draw(4, 2 * max(keys) - 1), max(keys) - 1)
        leaves, dense = [*leaves, given.values], [given.dense(n, n) for n in keys]
    elif bias == "dense":
        given = [draw(4, n, m) for n, m in zip(LENGTHS, keys, strict=True)]
        leaves, dense = [*leaves, *given], list(given)
    how = {"causal": causal, "window": window, "scale": 0.3}
    found = packed_attention(query, key, value, LENGTHS, keys, bias=given, **how)  # type: ignore[arg-type]
    texts = zip(query.split(LENGTHS), key.split(keys), value.split(keys), dense, strict=True)
    parts = [reference(q, k, v, bias=b, **how) for q, k, v, b in texts]  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.cat(parts))
    direction = draw(*found.shape).detach()
    gradients = [torch.autograd.grad(x, leaves, direction, retain_graph=True) for x in (found, torch.cat(parts))]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("pairs", [2**9, 2**18])
@pytest.mark.parametrize("kept", [0, 2**23])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_dropout_of_the_weights(
    learned: bool, causal: bool, kept: int, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same draw at each call: the gradient is that of finite differences, so weights are masked alike."""
    monkeypatch.setattr(spelled_out, "PAIRS", pairs)
    monkeypatch.setattr(spelled_out, "KEPT", kept)
    monkeypatch.setattr(spelled_out, "BLOCK", 4)
    lengths = (2, 5, 4)
    leaves = [draw(sum(lengths), heads, 3, seed=heads).requires_grad_() for heads in (2, 1, 1)]
    values = draw(2, 9)

    def attend(query: Tensor, key: Tensor, value: Tensor, values: Tensor) -> Tensor:
        torch.manual_seed(0)
        bias = DistanceBias(values, 4) if learned else None
        return packed_attention(query, key, value, lengths, lengths, causal=causal, bias=bias, dropout=0.3)

    assert torch.autograd.gradcheck(attend, (*leaves, values.requires_grad_(learned)), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_expectation_over_draws(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    lengths, kept = (4, 9), []
    query, key, value = (draw(13, 2, 8, seed=i).detach().to(dtype) for i in range(3))
    whole = packed_attention(query, key, value, lengths, lengths)
    for _ in range(1000):
        kept.append(packed_attention(query, key, value, lengths, lengths, dropout=0.2).float())
    assert kept[0].dtype is torch.float32
    assert not kept[0].equal(kept[1])
    found = torch.stack(kept)
    assert ((found.mean(0) - whole.float()) / found.std(0)).abs().max() < 5 / 1000**0.5 + (
        dtype is torch.bfloat16
    ) * 0.02


def test_autocast() -> None:
    query, key, value = (draw(13, 2, 8, seed=i).detach().float().requires_grad_() for i in range(3))
    whole = packed_attention(query, key, value, (4, 9), (4, 9))
    with torch.autocast("cpu"):
        found = packed_attention(query, key, value, (4, 9), (4, 9), dropout=0.001)
    assert found.dtype is torch.bfloat16
    (gradient,) = torch.autograd.grad(found.float().sum(), value)
    assert gradient.dtype is torch.float32
    assert ((found - whole).abs() > 0.05).float().mean() < 0.1


@pytest.mark.parametrize("heads", [1, 64])
@pytest.mark.parametrize("window", [None, 9, 30])
@pytest.mark.parametrize("causal", [False, True])
def test_texts_that_share_calls(causal: bool, window: int | None, heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths of a batch: some alike, some pieces inside of a text, some at its ends, an empty text; a wide window."""
    monkeypatch.setattr(grouping, "NARROW", 20)
    monkeypatch.setattr(packed, "NARROW", 20)
    monkeypatch.setattr(packed, "LEAST_BLOCK", 32)
    lengths = (1, 90, 20, 21, 0, 22, 8, 8, 16, 17, 32, 57)
    query, key, value = (draw(sum(lengths), heads, 2, seed=i) for i in range(3))
    if heads == 1 and window is None:
        assert len(planned(lengths, lengths, heads, causal).groups) < 4
    found = packed_attention(query, key, value, lengths, lengths, causal=causal, window=window, scale=2.0)
    texts = zip(*(x.split(lengths) for x in (query, key, value)), strict=True)
    parts = [reference(*text, causal=causal, window=window, bias=None, scale=2.0) for text in texts]
    torch.testing.assert_close(found, torch.cat(parts))
    direction, leaves = draw(*found.shape).detach(), (query, key, value)
    gradients = [torch.autograd.grad(x, leaves, direction, retain_graph=True) for x in (found, torch.cat(parts))]
    torch.testing.assert_close(*gradients)


def test_shared_keys() -> None:
    """A query sees its window and the shared tokens of its text, each once; other texts may share more or none."""
    lengths, reach, window = (100, 70, 9, 3, 150), 4, 5
    shared = ((0, 3, 50), (100,), (170,), (), (300,))
    query, key, value = (draw(sum(lengths), 2, 3, seed=i) for i in range(3))
    found = packed_attention(query, key, value, lengths, lengths, window=window, shared=shared, scale=2.0)
    places, texts = torch.arange(sum(lengths)), torch.arange(5).repeat_interleave(torch.tensor(lengths))
    look = (places[:, None] - places).abs() <= reach
    look[:, [place for own in shared for place in own]] = True
    look &= texts[:, None] == texts
    scores = torch.einsum("qhd,khd->hqk", query, key) * 2
    expected = torch.einsum("hqk,khd->qhd", scores.masked_fill(~look, float("-inf")).softmax(-1), value)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(x.square().sum(), (query, key, value)) for x in (found, expected)]
    torch.testing.assert_close(*gradients)
