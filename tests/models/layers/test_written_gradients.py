"""Layers with hand-written gradients: those of the operations that they stand for, which graphs still hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from eir_seq.models.layers.attention import spelled_out
from eir_seq.models.layers.dropout import drop
from eir_seq.models.layers.norms import rms_norm
from eir_seq.models.layers.norms.rms_norm import RMSNorm
from eir_seq.models.layers.positions import rotary
from eir_seq.models.layers.positions.rotary import InterleavedRotary, Rotary
from eir_seq.native import library


@pytest.fixture(autouse=True)
def _torchs_operations() -> Iterator[None]:
    with library.without():
        yield


@pytest.mark.parametrize("made", [Rotary(), Rotary(fraction=0.5), InterleavedRotary(), InterleavedRotary(channels=4)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_rotations(made: Rotary, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    heads = torch.randn(7, 2, 8, dtype=dtype, requires_grad=True)
    tables = made.tables(torch.arange(7), 8, torch.tensor(7))
    own = tuple(table.to(dtype) for table in tables) if dtype is torch.float64 else tables
    assert_alike(monkeypatch, rotary, lambda: made.rotate(heads, *own), (heads,))
    if dtype is torch.float64:
        assert torch.autograd.gradgradcheck(lambda x: made.rotate(x, *own), (heads,))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_root_mean_squares(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    norm, x = RMSNorm(16, 1e-3).to(dtype), torch.randn(3, 5, 16, dtype=dtype, requires_grad=True)
    torch.nn.init.normal_(norm.weight)
    assert_alike(monkeypatch, rms_norm, lambda: norm(x), (x, norm.weight))


def assert_alike(
    monkeypatch: pytest.MonkeyPatch, module: object, compute: Callable[[], Tensor], leaves: tuple[Tensor, ...]
) -> None:
    """Values and gradients, hand-written and not."""
    results = []
    for written in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(module, "is_eager", lambda written=written: written)
            found = compute()
        torch.manual_seed(1)
        results.append((found, *torch.autograd.grad(found, leaves, torch.randn_like(found))))
    half = results[0][0].dtype is torch.bfloat16
    atol, rtol = (0.1, 0.02) if half else (None, None)
    torch.testing.assert_close(*results, atol=atol, rtol=rtol)


def test_function_transforms() -> None:
    """`torch.func` takes the operations that it knows."""
    norm, x = RMSNorm(4, 1e-6), torch.randn(3, 4)
    found = torch.func.vmap(torch.func.grad(lambda x: norm(x).square().sum()))(x)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(norm(x).square().sum(), x)
    torch.testing.assert_close(found, expected)


def test_derivatives_of_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelled_out, "PAIRS", 40)  # several parts
    monkeypatch.setattr(spelled_out, "BLOCK", 2)
    torch.manual_seed(0)
    norm = RMSNorm(5, 1e-3).double()
    query, key, value = (torch.randn(2, heads, 4, 3, dtype=torch.float64) for heads in (4, 2, 2))
    bias = torch.randn(4, 4, 4, dtype=torch.float64)

    def again(compute: Callable[..., Tensor], *inputs: Tensor) -> bool:
        def seeded(*given: Tensor) -> Tensor:
            torch.manual_seed(1)
            return compute(*given)

        return bool(torch.autograd.gradgradcheck(seeded, [x.requires_grad_() for x in inputs], fast_mode=True))

    assert again(lambda x: drop(x.square(), 0.3), torch.randn(3, 5, dtype=torch.float64))
    assert again(norm, torch.randn(3, 5, dtype=torch.float64))
    for causal in (False, True):
        attention = partial(spelled_out.attention, dropout=0.3, scale=0.7, causal=causal)
        assert again(attention, query, key, value, bias)


def test_keys_that_no_query_sees_have_zero_gradients() -> None:
    """Keys of a batch without queries, as those of an empty text beside blocks of others."""
    query, key, value = (torch.randn(2, 2, length, 3, requires_grad=True) for length in (0, 5, 5))
    mixed = spelled_out.attention(query, key, value, torch.zeros(2, 5, requires_grad=True)[:, None], 0.0, 1.0)
    gradients = torch.autograd.grad(mixed.sum(), (key, value))
    assert not any(gradient.any() for gradient in gradients)
