"""Parallel recurrences against their definitions, one time after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from eir_seq.models.families.mamba.selective_scan import SHORTEST_CHUNK, selective_scan
from eir_seq.models.families.rwkv.wkv import wkv
from eir_seq.models.layers.recurrence.linear_recurrence import steps

BATCH, WIDTH, SIZE = 2, 5, 3
LENGTHS = (1, 2, 3, 7, 8, SHORTEST_CHUNK, 2 * SHORTEST_CHUNK + 1, 61)


@pytest.fixture(autouse=True, params=[2**30, 1], ids=["in parallel", "one by one"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In many chunks, and with recurrences computed in parallel or time by time."""
    monkeypatch.setattr("eir_seq.models.layers.recurrence.linear_recurrence.ENOUGH", request.param)
    monkeypatch.setattr("eir_seq.models.families.mamba.selective_scan.LARGEST_CHUNK", {"cpu": 1})


def drawn(*shape: int, spread: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * spread).requires_grad_()


def of_scan(length: int, spread: float) -> tuple[Tensor, ...]:
    """x, step, rates, write, read, start; with a wide `spread` some states vanish at once and others hardly fade."""
    step = F.softplus(drawn(BATCH, length, WIDTH, spread=spread, seed=1)).detach().requires_grad_()
    rates = -drawn(SIZE, WIDTH, spread=spread, seed=2).detach().exp().requires_grad_()
    write, read = drawn(BATCH, length, SIZE, seed=3), drawn(BATCH, length, SIZE, seed=4)
    return drawn(BATCH, length, WIDTH), step, rates, write, read, drawn(BATCH, SIZE, WIDTH, seed=5)


def scan_by_definition(
    x: Tensor, step: Tensor, rates: Tensor, write: Tensor, read: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    found = []
    for t in range(x.shape[1]):
        inputs = torch.einsum("bn,bd->bnd", write[:, t], step[:, t] * x[:, t])
        state = torch.exp(step[:, t, None] * rates) * state + inputs
        found.append(torch.einsum("bn,bnd->bd", read[:, t], state))
    return torch.stack(found, 1), state


def of_average(length: int, spread: float) -> tuple[Tensor, ...]:
    """key, value, rate, bonus, and sums in front of the first time."""
    rate = drawn(WIDTH, spread=spread / 4, seed=2).detach().exp().requires_grad_()
    start = (drawn(BATCH, WIDTH, seed=4), drawn(BATCH, WIDTH, seed=5).detach().exp().requires_grad_())
    inputs = (drawn(BATCH, length, WIDTH, spread=spread), drawn(BATCH, length, WIDTH, seed=1))
    return *inputs, rate, drawn(WIDTH, spread=spread, seed=3), *start, drawn(BATCH, WIDTH, seed=6)


def average_by_definition(
    key: Tensor, value: Tensor, rate: Tensor, bonus: Tensor, above: Tensor, below: Tensor, top: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Without a scale, so for moderate keys only; the last sums as they are."""
    above, below = above * top.exp(), below * top.exp()
    found = []
    for t in range(key.shape[1]):
        new, current = key[:, t].exp(), (key[:, t] + bonus).exp()
        found.append((above + current * value[:, t]) / (below + current))
        above, below = above * (-rate).exp() + new * value[:, t], below * (-rate).exp() + new
    return torch.stack(found, 1), above, below


def averages(*inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The last sums without their scale."""
    found, (above, below, top) = wkv(*inputs[:4], start=(inputs[4], inputs[5], inputs[6].detach()))
    return found, above * top.exp(), below * top.exp()


def assert_alike(ours: Any, defined: Any, inputs: tuple[Tensor, ...], tolerance: float = 1e-10) -> None:
    """Results, and gradients of a random projection of them."""
    results = [function(*inputs) for function in (ours, defined)]
    gradients = []
    for found in results:
        total = sum((drawn(*x.shape, seed=9).detach() * x).sum() for x in found)
        assert isinstance(total, Tensor)
        gradients.append(torch.autograd.grad(total, inputs, allow_unused=True))
    for one, other in [*zip(*results, strict=True), *zip(*gradients, strict=True)]:
        if one is not None:
            torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("spread", [1.0, 6.0])
def test_selective_scan_is_its_definition(length: int, spread: float) -> None:
    assert_alike(selective_scan, scan_by_definition, of_scan(length, spread))


@pytest.mark.parametrize("length", LENGTHS)
def test_fading_average_is_its_definition(length: int) -> None:
    inputs = of_average(length, 1.0)
    assert_alike(averages, average_by_definition, (*inputs[:6], inputs[6].detach().requires_grad_()))


def test_gradients_are_those_of_small_changes() -> None:
    assert torch.autograd.gradcheck(selective_scan, of_scan(SHORTEST_CHUNK + 2, 1.0), fast_mode=True)
    *inputs, top = of_average(5, 1.0)
    assert torch.autograd.gradcheck(lambda *given: averages(*given, top)[0], tuple(inputs), fast_mode=True)


@pytest.mark.parametrize("pieces", [(20, 41), (1, 60), (33, 1, 27)], ids=str)
def test_pieces_are_the_whole(pieces: tuple[int, ...]) -> None:
    """The state behind one piece is the start of the next."""
    x, step, rates, write, read, state = of_scan(61, 1.0)
    whole, last = selective_scan(x, step, rates, write, read, state)
    found = []
    for piece in zip(*(tensor.split(pieces, 1) for tensor in (x, step, write, read)), strict=True):
        y, state = selective_scan(*piece[:2], rates, *piece[2:], state)
        found.append(y)
    torch.testing.assert_close(torch.cat(found, 1), whole)
    torch.testing.assert_close(state, last)

    key, value, rate, bonus, *sums = of_average(61, 1.0)
    start = (sums[0], sums[1], sums[2])
    whole, last_sums = wkv(key, value, rate, bonus, start)
    found = []
    for k, v in zip(key.split(pieces, 1), value.split(pieces, 1), strict=True):
        y, start = wkv(k, v, rate, bonus, start)
        found.append(y)
    torch.testing.assert_close(torch.cat(found, 1), whole)
    torch.testing.assert_close(start, last_sums)


@pytest.mark.parametrize("spread", [30.0, 300.0, 3000.0])
def test_averages_of_extreme_keys(spread: float) -> None:
    """Far beyond what exp can hold even in float64: values between the least and the greatest, gradients finite."""
    key, value, rate, bonus, *_ = (x.detach().float().requires_grad_() for x in of_average(61, spread))
    nothing = torch.zeros(BATCH, WIDTH)
    found, sums = wkv(key, value, rate, bonus, (nothing, nothing, nothing - 1e38))
    found.sum().backward()
    assert all(bool(torch.isfinite(x).all()) for x in (found, *sums))
    assert all(x.grad is not None and bool(torch.isfinite(x.grad).all()) for x in (key, value, rate, bonus))
    assert bool((found <= value.cummax(1).values + 1e-5).all())
    assert bool((found >= value.cummin(1).values - 1e-5).all())
    # with such keys one term outweighs all others: where it is the current one, its value is the average
    ahead = key + bonus
    age = torch.arange(61)[:, None] - torch.arange(61)[None]  # (now, then)
    weight = (key[:, None] - (age[..., None] - 1) * rate).masked_fill(age[..., None] < 1, -torch.inf)
    current = ahead > weight.amax(2) + 30
    assert bool(current.any())
    torch.testing.assert_close(found[current], value[current])


def test_float32_stays_close_to_float64() -> None:
    """A long text, slowly fading states: nothing builds up."""
    inputs = of_scan(1000, 1.0)
    exact = selective_scan(*inputs)[0]
    found = selective_scan(*(x.detach().float() for x in inputs))[0]
    assert bool((found - exact).abs().max() < 1e-5 * exact.abs().max())


class Largest(TorchDispatchMode):
    """Watches how many numbers the largest new tensor has."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.size = max(self.size, tensor.numel())
        return result


def test_states_of_all_times_are_never_held() -> None:
    """Neither forward nor backward makes a tensor larger than the states of one chunk, or than its own inputs."""
    length = 40 * SHORTEST_CHUNK
    inputs = of_scan(length, 1.0)
    with Largest() as largest:
        y, _ = selective_scan(*inputs)
        y.sum().backward()
    assert largest.size == max(BATCH * SHORTEST_CHUNK * SIZE * WIDTH, BATCH * length * WIDTH)
    assert largest.size < BATCH * length * SIZE * WIDTH


def test_steps_grow_with_the_logarithm_of_the_length() -> None:
    counts = [len(list(steps(2**power))) for power in range(1, 12)]
    assert counts == [2 * power - 1 for power in range(1, 12)]
