"""Dropout by random bytes: its distribution, its gradient, and where torch's own serves instead."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from eir_seq.models.layers.dropout import ROW, STEPS, Dropout, Kept, drop


@pytest.mark.parametrize("rate", [0.0001, 0.1, 0.25, 0.5, 0.9])
def test_each_place_is_dropped_at_the_rate(rate: float) -> None:
    torch.manual_seed(0)
    count, draws = 1000, 2000
    dropped = torch.stack([1 - Kept.drawn(count, rate).factors() for _ in range(draws)])
    deviation = (rate * (1 - rate)) ** 0.5
    assert abs(float(dropped.mean()) - rate) < 4 * deviation / (count * draws) ** 0.5 + 1 / STEPS
    assert float((dropped.mean(0) - rate).abs().max()) < 5 * deviation / draws**0.5 + 1 / STEPS
    by_draw = dropped.sum(1).var()
    assert float(by_draw) == pytest.approx(count * deviation**2, rel=0.2), "places are dropped independently"
    assert torch.cov(dropped[:, :20].t()).tril(-1).abs().max() < 5 * deviation**2 / draws**0.5


@pytest.mark.parametrize("rate", [0.1, 1 / 3, 0.99])
def test_the_expectation_is_that_of_the_input(rate: float) -> None:
    kept = Kept.drawn(10, rate)
    places = (kept.least.double() + 128).sum()  # of 256 bytes at each of ROW places
    assert float((1 - places / (256 * ROW)) * kept.scale) == pytest.approx(1, abs=1e-12)
    assert abs(float(places) / STEPS - rate) <= 0.5 / STEPS


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_kept_is_scaled_and_so_is_its_gradient(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.rand(7, 33, dtype=dtype).add(1).requires_grad_()
    y = drop(x, 0.25)
    assert y.dtype is dtype
    kept = y != 0
    torch.testing.assert_close(y[kept], x[kept] / 0.75)
    y.backward(torch.full_like(y, 3))
    assert x.grad is not None
    torch.testing.assert_close(x.grad, kept.to(dtype) * 4)


def test_the_seed_decides_and_every_call_draws_anew() -> None:
    def draw() -> torch.Tensor:
        return drop(torch.ones(3, 1000), 0.3)

    torch.manual_seed(3)
    first, second = draw(), draw()
    torch.manual_seed(3)
    assert draw().equal(first)
    assert draw().equal(second)
    assert not first.equal(second)


def test_nothing_is_dropped_outside_of_training_and_everything_at_one() -> None:
    x = torch.rand(50)
    assert Dropout(0.5).eval()(x) is x
    assert drop(x, 0.0).equal(x)
    assert drop(x, 1.0).equal(torch.zeros(50))
    assert drop(x[:0], 0.5).shape == (0,)


def test_graphs_hold_the_dropout_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    x = torch.ones(100)
    torch.manual_seed(0)
    found = drop(x, 0.5)
    torch.manual_seed(0)
    assert found.equal(F.dropout(x, 0.5))


def test_exported_modules_hold_the_dropout_of_torch() -> None:
    program = torch.export.export(Dropout(0.5), (torch.ones(10),))
    assert any("dropout" in str(node.target) for node in program.graph.nodes)
