"""Norms, residual sums, dropout and activations by the kernels, against plain operations in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers import residual_sum as facade
from eir_seq.models.layers.feed_forward.activations import activated, activated_product, activation
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.norms.rms_norm import CenteredRMSNorm, RMSNorm
from eir_seq.models.layers.residual_sum import HasTerms, residual_norm, residual_sum
from eir_seq.native import activations, library, norms, reference
from eir_seq.native.norms import plain_norm
from tests.native.threads import assert_alike_with_all_numbers_of_threads

pytestmark = pytest.mark.usefixtures("kernels")
NORMS: list[Callable[[int], HasTerms]] = [
    LayerNorm.Config().build,
    LayerNorm.Config(bias=False).build,
    RMSNorm.Config().build,
    CenteredRMSNorm.Config().build,
]


@pytest.fixture(autouse=True)
def _small_norms_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facade, "LEAST", 0)


def kept(shape: tuple[int, ...], seed: int, rate: float) -> Tensor:
    """What elementwise dropout keeps: number i has half i // 16 % 8 of the bits at counter (i % 16, i // 128)."""
    count = int(torch.tensor(shape).prod())
    group = torch.arange(-(-count // 128))[:, None]
    words = reference.philox((torch.arange(16), group & (2**32 - 1), group >> 32, torch.tensor(0)), seed)
    halves = [half for word in words for half in (word & 0xFFFF, word >> 16)]
    return (torch.stack(halves, 1).flatten()[:count] >= round(rate * reference.STEPS)).view(shape)


def close(found: Tensor, exact: Tensor, tolerance: float = 2e-5) -> None:
    """Sums over rows of float32 lose some digits."""
    assert float((found.detach() - exact.detach()).abs().max()) <= tolerance * max(
        1.0, float(exact.detach().abs().max())
    )


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, dtype=torch.float32).to(dtype).requires_grad_()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("rate", [0.0, 0.2])
@pytest.mark.parametrize("update_type", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 3, 48), (130, 32)])
def test_residual_norm(
    norm: Callable[[int], HasTerms], rate: float, update_type: torch.dtype, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    x, update, module = draw(*shape), draw(*shape, dtype=update_type), norm(shape[-1])
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    leaves = [x, update, *module.parameters()]
    up, down = torch.randn(shape), torch.randn(shape)
    torch.manual_seed(1)
    seed = library.drawn_seed(rate)
    torch.manual_seed(1)
    total, normed = residual_norm(x, update, nn.Dropout(rate), module)
    assert type(normed.grad_fn).__name__ == "_NormBackward"
    found = torch.autograd.grad([total, normed], leaves, [up, down], retain_graph=True)
    alone = torch.autograd.grad(normed, leaves, down, retain_graph=True)
    only_sum = torch.autograd.grad(total, [x, update], up)

    x64, update64 = (leaf.detach().double().requires_grad_() for leaf in (x, update))
    module.double()
    leaves64 = [x64, update64, *module.parameters()]
    scale = 1 / (1 - round(rate * reference.STEPS) / reference.STEPS)
    total64 = x64 + update64 * kept(shape, seed, rate) * scale
    weight, bias, eps, centered = module.terms()
    normed64 = plain_norm(total64, weight, bias, eps, centered=centered)
    close(total, total64)
    close(normed, normed64)
    rounding = 2e-5 if update_type is torch.float32 else 4e-3
    exact = torch.autograd.grad([total64, normed64], leaves64, [up.double(), down.double()], retain_graph=True)
    for result, wanted in zip(found, exact, strict=True):
        close(result, wanted, rounding)
    exact = torch.autograd.grad(normed64, leaves64, down.double(), retain_graph=True)
    for result, wanted in zip(alone, exact, strict=True):
        close(result, wanted, rounding)
    for result, wanted in zip(only_sum, torch.autograd.grad(total64, [x64, update64], up.double()), strict=True):
        close(result, wanted, rounding)


@pytest.mark.parametrize("norm", NORMS)
def test_norm_alone(norm: Callable[[int], HasTerms]) -> None:
    torch.manual_seed(0)
    x, module, down = draw(100, 64), norm(64), torch.randn(100, 64)
    found = module(x)
    with torch.no_grad():
        assert torch.equal(module(x), found)
        assert torch.equal(residual_norm(x, x, nn.Dropout(0.0), module)[1], module(x + x))
    assert type(found.grad_fn).__name__ == "_NormBackward"
    grads = torch.autograd.grad(found, [x, *module.parameters()], down)
    x64 = x.detach().double().requires_grad_()
    exact = module.double()(x64)
    close(found, exact)
    for result, wanted in zip(
        grads, torch.autograd.grad(exact, [x64, *module.parameters()], down.double()), strict=True
    ):
        close(result, wanted)


@pytest.mark.parametrize("update_type", [torch.float32, torch.bfloat16])
def test_residual_sum(update_type: torch.dtype) -> None:
    torch.manual_seed(0)
    x, update = draw(9, 32), draw(9, 32, dtype=update_type)
    torch.manual_seed(1)
    seed = library.drawn_seed(0.5)
    torch.manual_seed(1)
    found = residual_sum(x, update, nn.Dropout(0.5))
    mask = kept((9, 32), seed, 0.5)
    assert torch.equal(found, x + update.float() * mask * 2)
    grads = torch.autograd.grad(found.sum(), [x, update])
    assert torch.equal(grads[0], torch.ones(9, 32))
    assert torch.equal(grads[1].float(), mask * 2.0)
    assert torch.equal(residual_sum(x, update, nn.Dropout(0.5).eval()), x + update)


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "quick_gelu", "silu", "relu"])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations(name: str, gated: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.cat((torch.linspace(-12, 12, 600), torch.tensor([-1e4, -40.0, 0.0, 1e4]), torch.randn(996))).view(100, 16)
    x = x.to(dtype).requires_grad_()
    factor, down = draw(100, 16, dtype=dtype) if gated else None, torch.randn(100, 16).to(dtype)
    leaves = [x, factor] if factor is not None else [x]
    torch.manual_seed(1)
    seed = library.drawn_seed(0.25)
    torch.manual_seed(1)
    found = activated(x, name, factor, nn.Dropout(0.25))
    assert type(found.grad_fn).__name__ == "_ActivatedBackward"
    grads = torch.autograd.grad(found, leaves, down)
    leaves64 = [leaf.detach().double().requires_grad_() for leaf in leaves]
    exact = activation(name)(leaves64[0]) * (leaves64[1] if gated else 1) * kept((100, 16), seed, 0.25) * (4 / 3)
    rounding = {torch.float32: 2e-6, torch.bfloat16: 4e-3}[dtype]  # of the kernels' own, or that of the dtype
    for result, wanted in zip(
        [found, *grads], [exact, *torch.autograd.grad(exact, leaves64, down.double())], strict=True
    ):
        apart = (result - wanted).abs() / wanted.abs().clamp(min=1)
        assert float(apart.detach().max()) <= rounding


@pytest.mark.parametrize("name", ["gelu", "relu"])
@pytest.mark.parametrize("gated", [False, True])
def test_biases_of_linear_layers(name: str, gated: bool) -> None:
    torch.manual_seed(0)
    layer, x = Linear(16, 48), draw(3, 100, 16)
    factor, down = draw(3, 100, 48) if gated else None, torch.randn(3, 100, 48)
    leaves = [leaf for leaf in (x, layer.weight, layer.bias, factor) if leaf is not None]
    torch.manual_seed(1)
    seed = library.drawn_seed(0.25)
    torch.manual_seed(1)
    found = activated_product(layer, x, name, factor, nn.Dropout(0.25))
    assert found.grad_fn is not None
    assert type(found.grad_fn).__name__ == "_ActivatedBackward"
    assert type(found.grad_fn.next_functions[0][0]).__name__ != "AddmmBackward0"  # the kernel adds the bias
    leaves64 = [leaf.detach().double().requires_grad_() for leaf in leaves]
    exact = activation(name)(F.linear(*leaves64[:3])) * (leaves64[3] if gated else 1)
    exact = exact * kept((3, 100, 48), seed, 0.25) * (4 / 3)
    close(found, exact)
    grads = torch.autograd.grad(found, leaves, down), torch.autograd.grad(exact, leaves64, down.double())
    for result, wanted in zip(*grads, strict=True):
        close(result, wanted)
    seen: list[Tensor] = []
    with torch.no_grad():
        plain = activated_product(layer, x, name, factor)
        layer.register_forward_hook(lambda *call: seen.append(call[2]))
        hooked = activated_product(layer, x, name, factor)
    close(hooked, plain)
    close(seen[0], F.linear(x, layer.weight, layer.bias))  # no result takes its memory


def test_nothing_hides_a_nan() -> None:
    x = torch.ones(2, 16)
    x[1, 3] = torch.nan
    for name in activations.PLAIN:
        found = activations.activated(x, name)
        assert bool(found[1, 3].isnan())
        assert bool(found[0].isfinite().all())
    assert bool(norms.norm(x, torch.ones(16), None, 1e-5, centered=True)[1].isnan().all())
    from eir_seq.native.attention import attention

    for query, key, value in ((x, x * 0 + 1, x * 0 + 1),):
        out = attention(query[:, None], key.nan_to_num()[:, None], value.nan_to_num()[:, None], (2,), (2,))
        assert bool(out[1].isnan().all())
        assert bool(out[0].isfinite().all())


def test_results_do_not_depend_on_threads() -> None:
    torch.manual_seed(0)
    x, update, bias, module = draw(3000, 64), draw(3000, 64), draw(64), LayerNorm.Config().build(64)

    def compute() -> list[Tensor]:
        torch.manual_seed(1)
        total, normed = residual_norm(x, update, nn.Dropout(0.1), module)
        inner = activations.activated(normed, "gelu", total, 0.1, bias)
        grads = torch.autograd.grad(inner.sum(), [x, update, bias, *module.parameters()])
        return [total, normed, inner, *grads]

    assert_alike_with_all_numbers_of_threads(compute)


@pytest.mark.parametrize("centered", [True, False])
def test_derivatives_of_derivatives(centered: bool) -> None:
    torch.manual_seed(0)
    x, update, weight, bias = draw(5, 16), draw(5, 16), draw(16), draw(16) if centered else None
    added = draw(16)
    leaves = [leaf for leaf in (x, update, weight, bias, added) if leaf is not None]
    torch.manual_seed(1)
    masks = [kept((5, 16), library.drawn_seed(0.5), 0.5) for _ in range(2)]

    def second(native: bool) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        if native:
            total, normed = norms.normed_sum(update, x, weight, bias, 1e-5, 0.5, centered=centered)
            out = activations.activated(normed, "silu", total, 0.5, added)
        else:
            total = x + update * masks[0] * 2
            normed = plain_norm(total, weight, bias, 1e-5, centered=centered)
            out = F.silu(normed + added) * total * masks[1] * 2
        first = torch.autograd.grad(out.square().sum() + total.sum(), leaves, create_graph=True)
        return torch.autograd.grad(torch.stack([grad.square().sum() for grad in first]).sum(), leaves)

    for found, wanted in zip(second(True), second(False), strict=True):
        close(found, wanted, 1e-4)


def test_other_tensors_take_torchs_operations() -> None:
    module = LayerNorm.Config().build(20)
    assert type(module(draw(3, 20)).grad_fn).__name__ == "NativeLayerNormBackward0"  # not a multiple of 16
    module = LayerNorm.Config().build(32)
    assert module.double()(draw(3, 32).double()).dtype is torch.float64
    total, normed = residual_norm(draw(3, 32), draw(1, 32), nn.Dropout(0.0), LayerNorm.Config().build(32))
    assert total.shape == normed.shape == (3, 32)
    assert activated(draw(3, 5), "gelu").shape == (3, 5)
    assert activated(draw(0, 16), "gelu").shape == (0, 16)
