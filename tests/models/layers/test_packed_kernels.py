"""Kernels of a GPU for packed texts, compared with `packed_attention`; a loop stands for torch's flash kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models import create_model
from eir_seq.models.layers.attention import packed_kernels
from eir_seq.models.layers.attention.packed import packed_attention
from eir_seq.models.layers.positions.relative import DistanceBias
from eir_seq.models.model import Model
from tests.models.tiny import OPTIONS, inputs, noisy, tiny

LENGTHS, KEYS = (3, 1, 5, 9), (4, 2, 6, 1)
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
TYPES = ["bert", "llama", "mixtral", "t5", "m2m_100"]
"""Plain, causal with shared heads, with windows, with learned biases by distance, with cross-attention."""


def varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    ends: Tensor,
    key_ends: Tensor,
    longest: int,
    most_keys: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """What torch's flash attention for texts of varying length is documented to compute."""
    lengths, key_lengths = ends.diff().tolist(), key_ends.diff().tolist()
    assert (longest, most_keys) == (max(lengths), max(key_lengths))
    mixed = []
    for text in zip(query.split(lengths), key.split(key_lengths), value.split(key_lengths), strict=True):
        q, k, v = (x.transpose(0, 1)[None] for x in text)
        apart = torch.arange(k.shape[2]) - torch.arange(q.shape[2])[:, None]
        before, after = (reach if reach >= 0 else len(key) for reach in window_size)
        mask = (apart >= -before) & (apart <= after)
        out = F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=enable_gqa)
        mixed.append(out[0].transpose(0, 1))
    return torch.cat(mixed)


@pytest.fixture
def flash_kernel(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry per call of the kernel, for which the loop stands."""
    calls = []

    def counted(*args: Any, **options: Any) -> Tensor:
        calls.append(1)
        return varlen(*args, **options)

    monkeypatch.setattr(packed_kernels, "_varlen_attn", lambda: counted)
    return calls


def as_on_gpu(model: Model, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set an implementation that needs a GPU."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        model.set_attn_implementation(name)


def drawn(shared: int, keys: tuple[int, ...] = LENGTHS) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(sum(LENGTHS), 4, 8), *torch.randn(2, sum(keys), shared, 8)]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("shared", [4, 2])
def test_both_are_packed_attention(flash_kernel: list[int], causal: bool, window: int | None, shared: int) -> None:
    texts, how = drawn(shared), {"causal": causal, "window": window, "scale": 0.4}
    expected = packed_attention(*texts, LENGTHS, LENGTHS, **how)
    flash = packed_kernels.flash(*texts, LENGTHS, LENGTHS, dropout=0.0, **how)
    flex = packed_kernels.flex(*texts, LENGTHS, LENGTHS, bias=None, **how)
    assert flash_kernel
    for found in (flash, flex):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_cross_attention_and_biases(flash_kernel: list[int]) -> None:
    texts, how = drawn(4, KEYS), {"causal": False, "window": None, "scale": 0.4}
    expected = packed_attention(*texts, LENGTHS, KEYS, scale=0.4)
    torch.testing.assert_close(packed_kernels.flash(*texts, LENGTHS, KEYS, dropout=0.0, **how), expected)
    torch.testing.assert_close(packed_kernels.flex(*texts, LENGTHS, KEYS, bias=None, **how), expected)
    texts, bias = drawn(4), DistanceBias(torch.randn(4, 31), 15)
    expected = packed_attention(*texts, LENGTHS, LENGTHS, scale=0.4, bias=bias)
    torch.testing.assert_close(packed_kernels.flex(*texts, LENGTHS, LENGTHS, bias=bias, **how), expected)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("shared", [4, 2])
def test_nested_tensors_where_there_is_dropout(monkeypatch: pytest.MonkeyPatch, shared: int) -> None:
    """Values and gradients without dropout; with it the expectation over many draws."""
    monkeypatch.setattr(packed_kernels, "_varlen_attn", lambda: None)
    found = []
    for nested in (True, False):
        texts = [x.requires_grad_() for x in drawn(shared)]
        if nested:
            out = packed_kernels.flash(*texts, LENGTHS, LENGTHS, causal=False, window=None, dropout=0.0, scale=0.4)
        else:
            out = packed_attention(*texts, LENGTHS, LENGTHS, scale=0.4)
        assert out is not None
        out.square().sum().backward()
        found.append([out.detach(), *(x.grad for x in texts)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    copies, count = 200, 2000  # many copies of the texts in one call are as many draws
    many, lengths = [x.repeat(copies, 1, 1) for x in drawn(shared)], LENGTHS * copies
    how: dict[str, Any] = {"causal": False, "window": None, "dropout": 0.2, "scale": 0.4}
    with torch.no_grad():
        draws = [packed_kernels.flash(*many, lengths, lengths, **how) for _ in range(count // copies)]
    mean = torch.stack([x.unflatten(0, (copies, -1)) for x in draws if x is not None]).mean((0, 1))
    # a weight w of a value v has variance v^2 w^2 / 4, so means stray by .5 |v| / sqrt(2000) at most
    assert (mean - found[0][0]).abs().max() < 5 * 0.5 * many[2].abs().max() / count**0.5


def test_what_the_flash_kernel_leaves_to_others() -> None:
    texts, how = drawn(4), {"causal": False, "scale": 0.4}
    odd = [torch.randn(18, 4, 12) for _ in range(3)]
    assert packed_kernels.flash(*odd, LENGTHS, LENGTHS, window=None, dropout=0.0, **how) is None
    assert packed_kernels.flash(*texts, LENGTHS, LENGTHS, window=3, dropout=0.1, **how) is None
    assert packed_kernels.flash(*texts, (0, 4, 5, 9), (0, 4, 5, 9), window=None, dropout=0.1, **how) is None


@pytest.mark.parametrize("model_type", TYPES)
@torch.no_grad()
def test_models_with_flex_attention(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, where all pairs are spelled out."""
    calls = []
    flex = packed_kernels.flex
    monkeypatch.setattr(packed_kernels, "flex", lambda *args, **how: calls.append(1) or flex(*args, **how))
    model = noisy(tiny(model_type))
    given = inputs(model)
    expected = model(**given).last_hidden_state
    as_on_gpu(model, "flex_attention", monkeypatch)
    torch.testing.assert_close(model(**given).last_hidden_state, expected, atol=2e-5, rtol=1e-5)
    assert calls


@pytest.mark.parametrize("model_type", ["bert", "llama", "mixtral", "m2m_100"])
@torch.no_grad()
def test_models_with_the_flash_kernel(
    model_type: str, flash_kernel: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = {"bert": {"hidden_size": 32}}.get(model_type, {})
    model = noisy(create_model(model_type, {**OPTIONS[model_type], **heads})).eval().to(torch.bfloat16)
    given = inputs(model)
    expected = model(**given).last_hidden_state.float()
    as_on_gpu(model, "flash_attention_2", monkeypatch)
    found = model(**given).last_hidden_state.float()
    assert flash_kernel
    assert (found - expected).abs().max() < 2**-4  # the last bits of bfloat16 are 2^-8 of numbers up to 4
