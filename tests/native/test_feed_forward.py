"""Feed-forward blocks by the kernel, against plain operations in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers.feed_forward import activations
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.kernels import NEVER
from eir_seq.models.layers.lora import Lora
from eir_seq.native import feed_forward, library
from tests.native.test_norms import close, kept
from tests.native.threads import assert_alike_with_all_numbers_of_threads

pytestmark = pytest.mark.usefixtures("kernels")
WIDTH, INNER = 20, 48


@pytest.fixture(autouse=True)
def _no_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "kernels", lambda: NEVER)


def block(name: str = "gelu", *, gated: bool = False, bias: bool = True, rate: float = 0.0, inner: int = INNER) -> Mlp:
    torch.manual_seed(0)
    config = Mlp.Config(
        hidden_size=WIDTH, inner_size=inner, activation=name, gated=gated, bias=bias, inner_dropout=rate
    )
    mlp = config.build()
    for parameter in mlp.parameters():
        nn.init.normal_(parameter, std=0.5)
    return mlp


def is_kernels(y: Tensor) -> bool:
    return type(y.grad_fn).__name__ == "_FeedForwardBackward"


def plain(mlp: Mlp, x: Tensor, factors: Tensor | float) -> Tensor:
    """`factors`: of dropout."""
    state = mlp.activation((mlp.up if mlp.gate is None else mlp.gate)(x))
    state = state if mlp.gate is None else state * mlp.up(x)
    return F.linear(state * factors, mlp.down.weight, mlp.down.bias)


def check(mlp: Mlp, shape: tuple[int, ...], rate: float) -> None:
    x, above = torch.randn(shape).requires_grad_(), torch.randn(shape)
    torch.manual_seed(1)
    seed = library.drawn_seed(rate)
    torch.manual_seed(1)
    y = mlp(x)
    assert is_kernels(y)
    grads = torch.autograd.grad(y, [x, *mlp.parameters()], above)
    if not rate:
        with torch.no_grad():
            assert torch.equal(mlp(x), y)
    x64 = x.detach().double().requires_grad_()
    mlp.double()
    inner = (*shape[:-1], mlp.up.out_features)
    exact = plain(mlp, x64, kept(inner, seed, rate) / (1 - round(rate * 2**16) / 2**16))
    close(y, exact)
    wanted = torch.autograd.grad(exact, [x64, *mlp.parameters()], above.double())
    for ours, theirs in zip(grads, wanted, strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "quick_gelu", "silu", "relu"])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_equal_to_plain_operations(name: str, gated: bool, bias: bool, rate: float) -> None:
    check(block(name, gated=gated, bias=bias, rate=rate), (3, 50, WIDTH), rate)


@pytest.mark.parametrize("shape", [(2, WIDTH), (17, WIDTH), (1, 129, WIDTH), (1300, WIDTH), (4500, WIDTH)])
def test_chunks_and_parts(shape: tuple[int, ...]) -> None:
    check(block(gated=True, rate=0.1), shape, 0.1)


def test_only_wanted_gradients() -> None:
    """Frozen parameters get none, nor do states that need none."""
    mlp, x = block(gated=True), torch.randn(40, WIDTH)
    whole = torch.autograd.grad(mlp(x).sum(), list(mlp.parameters()))
    frozen = [mlp.down.weight, mlp.up.weight, mlp.up.bias, mlp.down.bias]
    for parameter in frozen:
        parameter.requires_grad_(False)
    y = mlp(x)
    assert is_kernels(y)
    y.sum().backward()  # type: ignore[no-untyped-call]
    for parameter, grad in zip(mlp.parameters(), whole, strict=True):
        assert parameter.grad is None if any(parameter is one for one in frozen) else torch.equal(parameter.grad, grad)


@pytest.mark.parametrize("gated", [False, True])
def test_derivatives_of_derivatives(gated: bool) -> None:
    mlp, x = block("silu", gated=gated, rate=0.5), torch.randn(20, WIDTH).requires_grad_()
    torch.manual_seed(1)
    factors = kept((20, INNER), library.drawn_seed(0.5), 0.5) * 2
    leaves = [x, *mlp.parameters()]

    def second(native: bool) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        y = mlp(x) if native else plain(mlp, x, factors)
        assert is_kernels(y) == native
        first = torch.autograd.grad(y.square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(torch.stack([grad.square().sum() for grad in first]).sum(), leaves)

    for found, wanted in zip(second(True), second(False), strict=True):
        close(found, wanted, 1e-4)


@pytest.mark.parametrize("rows", [31, 500, 2100])
def test_results_do_not_depend_on_threads(rows: int) -> None:
    mlp, x = block(gated=True, rate=0.1), torch.randn(rows, WIDTH).requires_grad_()

    def compute() -> list[Tensor]:
        torch.manual_seed(1)
        y = mlp(x)
        return [y, *torch.autograd.grad(y, [x, *mlp.parameters()], y.detach())]

    assert_alike_with_all_numbers_of_threads(compute)


def test_nothing_hides_a_nan() -> None:
    x = torch.randn(40, WIDTH)
    x[7, 3] = torch.nan
    y = block()(x)
    assert bool(y[7].isnan().all())
    assert int(y.isnan().any(1).sum()) == 1


def test_others_take_their_layers_one_by_one() -> None:
    """Few rows of wide layers, odd inner widths, adapters, hooks, other activations and numbers."""
    x, seen = torch.randn(40, WIDTH), []
    adapted, hooked = block(), block()
    adapted.up.lora = Lora(nn.Parameter(torch.ones(2, WIDTH)), nn.Parameter(torch.ones(INNER, 2)), scale=1.0, dropout=0)
    hooked.down.register_forward_hook(lambda *_: seen.append(1))
    for mlp in (adapted, hooked, block(inner=40), block("tanh")):
        assert not is_kernels(mlp(x))
    assert seen == [1]
    assert not is_kernels(block().double()(x.double()))
    assert not is_kernels(block()(x[:1]))
    assert not is_kernels(block()(x[:0]))
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_kernels(block()(x))
    wide = feed_forward.MOST_WEIGHTS // WIDTH // 16 * 16 + 16
    assert not is_kernels(block(inner=wide)(torch.randn(2000, WIDTH)))
