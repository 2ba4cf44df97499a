"""Linear layers of one input by the kernel, against plain operations in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from eir_seq.models.layers import kernels as choice
from eir_seq.models.layers.linear import Linear, linears
from eir_seq.models.layers.lora import Lora
from tests.native.threads import assert_alike_with_all_numbers_of_threads

pytestmark = pytest.mark.usefixtures("kernels")
IN = 24


@pytest.fixture(autouse=True)
def _no_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "kernels", lambda: choice.NEVER)
    monkeypatch.setattr("eir_seq.models.layers.linear.kernels", lambda: choice.NEVER)


def layers() -> list[Linear]:
    """Of odd widths, one without a bias, one with many outputs."""
    torch.manual_seed(0)
    return [Linear(IN, 20), Linear(IN, 7, bias=False), Linear(IN, 300)]


def leaves(modules: list[Linear], x: Tensor) -> list[Tensor]:
    return [x, *(p for module in modules for p in module.parameters() if p.requires_grad)]


@pytest.mark.parametrize("shape", [(3, 5, IN), (600, IN), (0, IN), (IN,)])
def test_equal_to_plain_products(shape: tuple[int, ...]) -> None:
    modules, x = layers(), torch.randn(shape).requires_grad_()
    found = linears(modules, x)
    assert {type(y.grad_fn).__name__ for y in found} == {"_LinearBackward"}
    above = [torch.randn_like(y) for y in found]
    grads = torch.autograd.grad(found, leaves(modules, x), above)
    exact64 = [nn.Linear.double(module) for module in layers()]
    x64 = x.detach().double().requires_grad_()
    exact = [F.linear(x64, module.weight, module.bias) for module in exact64]
    exact_grads = torch.autograd.grad(exact, leaves(exact64, x64), [y.double() for y in above])
    for ours, theirs in zip([*found, *grads], [*exact, *exact_grads], strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=2e-5, rtol=2e-5)


def test_only_wanted_gradients() -> None:
    """Frozen parameters and outputs that nothing reads get none, and states that need none."""
    modules, x = layers(), torch.randn(4, IN)
    modules[0].weight.requires_grad_(False)
    linears(modules, x)[0].sum().backward()  # type: ignore[no-untyped-call]
    assert [p.grad is None for module in modules for p in module.parameters()] == [True, False, True, True, True]
    torch.testing.assert_close(modules[0].bias.grad, torch.full((20,), 4.0))


def test_gradients_of_gradients() -> None:
    modules, x = layers()[:2], torch.randn(4, IN).requires_grad_()

    def penalty(y: Tensor) -> list[Tensor]:
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return list(torch.autograd.grad(first.square().sum(), [x, modules[0].weight]))

    found = penalty(linears(modules, x)[0])
    expected = penalty(F.linear(x, modules[0].weight, modules[0].bias))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_results_do_not_depend_on_threads() -> None:
    modules, x = layers(), torch.randn(1000, IN).requires_grad_()

    def compute() -> list[Tensor]:
        found = linears(modules, x)
        return [*found, *torch.autograd.grad(found, leaves(modules, x), [y.detach() for y in found])]

    assert_alike_with_all_numbers_of_threads(compute)


def test_others_are_called_one_by_one() -> None:
    """Adapters, hooks and modules of other kinds keep their say."""
    modules, x, seen = layers(), torch.randn(4, IN), []
    modules[0].lora = Lora(nn.Parameter(torch.ones(2, IN)), nn.Parameter(torch.ones(20, 2)), scale=1.0, dropout=0.0)
    modules[1].register_forward_hook(lambda *_: seen.append(1))
    linears(modules, x)
    assert seen == [1]
    assert linears([nn.Linear(IN, 3)], x)[0].shape == (4, 3)


def test_dispatch_modes_see_the_kernel() -> None:
    """What torch hands to Python and back are types that it knows, undefined gradients included."""

    class Names(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            names.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    names: set[str] = set()
    modules, x = layers(), torch.randn(4, IN)
    with Names():  # type: ignore[no-untyped-call]
        linears(modules, x)[0].sum().backward()  # type: ignore[no-untyped-call]
    assert "linear_backward" in names
