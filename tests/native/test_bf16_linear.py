"""Linear layers in bfloat16 by the kernels, against products of the same rounded factors in double precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from eir_seq.models.layers.linear import Linear, linear, linears
from eir_seq.native import bf16_linear, library
from tests.native.threads import assert_alike_with_all_numbers_of_threads

pytestmark = pytest.mark.usefixtures("amx")
HALF = torch.bfloat16
ROUNDED = {"rtol": 2**-8, "atol": 2e-5}
"""Of a sum that is rounded to bfloat16: half of the distance between its numbers, and a little for another order."""
SUMMED = {"rtol": 2e-5, "atol": 2e-5}
"""Of a sum in float32, in another order."""


@pytest.fixture
def amx(kernels: None) -> None:
    if not library.operations().bf16_is_served():
        pytest.skip("this processor has no AMX")


@contextmanager
def autocast() -> Iterator[None]:
    with torch.autocast("cpu", dtype=HALF):
        yield


def layers(width: int) -> list[Linear]:
    """Narrower and wider than what they read, of odd widths too, one without a bias."""
    torch.manual_seed(0)
    return [Linear(width, 20), Linear(width, 7, bias=False), Linear(width, 300), Linear(width, width)]


def leaves(modules: list[Linear], x: Tensor) -> list[Tensor]:
    return [x, *(p for module in modules for p in module.parameters() if p.requires_grad)]


def rounded(x: Tensor) -> Tensor:
    """In double precision, with gradients of its own."""
    return x.detach().to(HALF).double().requires_grad_()


@pytest.mark.parametrize(
    "shape", [(4, 8, 64), (33, 64), (5, 7, 40), (300, 37), (1700, 32), (3300, 1)], ids=lambda shape: str(shape)
)
def test_equal_to_products_of_rounded_factors(shape: tuple[int, ...]) -> None:
    """Rows and widths that fill tiles and that do not, more rows than are added at a time."""
    modules, x = layers(shape[-1]), torch.randn(shape).requires_grad_()
    with autocast():
        found = linears(modules, x)
    assert {type(y.grad_fn).__name__ for y in found} == {"_LinearBackward"}
    assert {y.dtype for y in found} == {HALF}
    above = [torch.randn_like(y) for y in found]
    grads = torch.autograd.grad(found, leaves(modules, x), above)
    assert {grad.dtype for grad in grads} == {torch.float32}
    x64 = rounded(x)
    weights = [rounded(module.weight) for module in modules]
    biases = [None if m.bias is None else m.bias.detach().double().requires_grad_() for m in modules]
    exact = [F.linear(x64, *both) for both in zip(weights, biases, strict=True)]
    inputs = [x64, *(p for both in zip(weights, biases, strict=True) for p in both if p is not None)]
    exact_grads = torch.autograd.grad(exact, inputs, [y.double() for y in above])
    for ours, theirs in zip(found, exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, **ROUNDED)
    for ours, theirs in zip(grads, exact_grads, strict=True):
        scale = theirs.abs().max()  # of which a float32 has 24 bits, whatever is left of the sum
        torch.testing.assert_close(ours.double() / scale, theirs / scale, **SUMMED)


def test_parameters_of_bfloat16() -> None:
    """Without autocast; states, gradients and parameters are all of it."""
    module, x = Linear(40, 50).to(HALF), torch.randn(70, 40, dtype=HALF).requires_grad_()
    found = module(x)
    assert type(found.grad_fn).__name__ == "_LinearBackward"
    expected = F.linear(x.double(), module.weight.double(), module.bias.double())
    inputs, above = [x, module.weight, module.bias], torch.randn_like(found)
    torch.testing.assert_close(found.double(), expected, **ROUNDED)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, above), torch.autograd.grad(expected, inputs, above.double()), strict=True
    ):
        assert ours.dtype is HALF
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=2**-7, atol=2**-7)  # both are rounded
    with torch.no_grad():
        assert torch.equal(module(x), found)


def test_only_wanted_gradients() -> None:
    """Frozen parameters and outputs that nothing reads get none, and states that need none."""
    modules, x = layers(32)[:3], torch.randn(40, 32)
    modules[0].weight.requires_grad_(False)
    with autocast():
        found = linears(modules, x)
    found[0].sum().backward()  # type: ignore[no-untyped-call]
    assert [p.grad is None for module in modules for p in module.parameters()] == [True, False, True, True, True]
    torch.testing.assert_close(modules[0].bias.grad, torch.full((20,), 40.0))


def test_gradients_of_gradients() -> None:
    module, x = Linear(32, 20), torch.randn(40, 32).requires_grad_()

    def penalty(y: Tensor, weight: Tensor, states: Tensor) -> list[Tensor]:
        (first,) = torch.autograd.grad(y.square().sum(), states, create_graph=True)
        return list(torch.autograd.grad(first.square().sum(), [states, weight]))

    with autocast():
        found = penalty(linear(x, module.weight), module.weight, x)
    x64, weight = rounded(x), rounded(module.weight)
    for ours, theirs in zip(found, penalty(F.linear(x64, weight), weight, x64), strict=True):
        error = (ours.double() - theirs).norm() / theirs.norm()
        assert error < 2**-6  # of a few roundings, each of at most 2^-9


def test_results_do_not_depend_on_threads() -> None:
    modules, x = layers(64), torch.randn(2000, 64).requires_grad_()

    def compute() -> list[Tensor]:
        with autocast():
            found = linears(modules, x)
        return [*found, *torch.autograd.grad(found, leaves(modules, x), [y.detach() for y in found])]

    assert_alike_with_all_numbers_of_threads(compute)


def test_rows_do_not_touch_each_other() -> None:
    """What fills tiles up is zero, and a NaN stays in its row."""
    x = torch.randn(33, 40)
    x[32, 3] = torch.nan
    module = Linear(40, 20)
    with autocast(), torch.no_grad():
        found = module(x)
        assert torch.equal(found[:32], module(x[:32]))
    assert found.isnan().all(-1).tolist() == [False] * 32 + [True]


def test_nothing_is_compiled_for_new_row_counts() -> None:
    """No product is left to oneDNN, forward or backward."""

    class Names(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            names.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    names: set[str] = set()
    modules, x = layers(32), torch.randn(57, 32).requires_grad_()
    with Names():  # type: ignore[no-untyped-call]
        with autocast():
            found = [*linears(modules, x), modules[0](x)]
        torch.autograd.grad(found, leaves(modules, x), [y.detach() for y in found])
    assert {"bf16_linear_forward", "bf16_linear_backward"} <= names
    assert not names & {"linear", "mm", "addmm", "matmul", "mkldnn_linear"}


def test_what_is_left_to_torch() -> None:
    """Few rows, other dtypes, transformed functions, and float32 without autocast."""
    weight, x = torch.randn(20, 32), torch.randn(40, 32)

    def serves(states: Tensor, factor: Tensor = weight) -> bool:
        return bf16_linear.serves(states, (factor,), (None,))

    half = x.to(HALF)
    assert [serves(x), serves(half), serves(half, weight.to(HALF))] == [False, False, True]
    with autocast():
        assert [serves(x), serves(half), serves(x.double()), serves(x, weight.double())] == [True, True, False, False]
        assert not any(serves(states) for states in (x[:8], x[:0], x[:, :30]))
        assert not serves(x, weight.t().contiguous().t())
        seen: list[bool] = []
        torch.func.grad(lambda states: (seen.append(serves(states)), linear(states, weight).float().sum())[1])(x)
        assert seen == [False]
    with torch.autocast("cpu", dtype=torch.float16):
        assert not serves(x)
