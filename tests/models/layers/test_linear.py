"""The oneDNN path of linear layers: the same numbers as torch's own, chosen the same way in every run."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.layers import kernels, linear
from eir_seq.models.layers.kernels import NARROW, RULE, Kernels, used
from eir_seq.models.layers.linear import Linear

ROWS, IN, OUT = 256, 128, 160
assert (ROWS * IN * OUT).bit_length() > RULE.smallest
pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"),
    reason="this torch has no oneDNN",
)


@pytest.fixture(autouse=True)
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Take oneDNN whatever this machine is; gives the shapes of the inputs that it multiplied."""
    shapes: list[tuple[int, ...]] = []
    multiply = kernels.onednn

    def recorded(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        shapes.append(tuple(x.shape))
        return multiply(x, weight, bias)

    monkeypatch.setattr(linear, "onednn", recorded)
    with used(RULE):
        yield shapes


def layer(*, bias: bool = True) -> Linear:
    torch.manual_seed(0)
    return Linear(IN, OUT, bias=bias)


def states(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def exact(module: Linear, x: Tensor, direction: Tensor) -> dict[str, Tensor]:
    """Output and gradients in double precision, by torch's own product."""
    wide, weight = x.detach().double().requires_grad_(), module.weight.detach().double().requires_grad_()
    bias = None if module.bias is None else module.bias.detach().double().requires_grad_()
    out = F.linear(wide, weight, bias)
    out.backward(direction.double())
    found = {"out": out.detach(), "x": wide.grad, "weight": weight.grad, "bias": None if bias is None else bias.grad}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def assert_near(found: Tensor, expected: Tensor, terms: int) -> None:
    """Rounding of a sum of `terms` products in float32 grows at most like its length; here like its root, 4 times."""
    allowed = 4 * terms**0.5 * torch.finfo(torch.float32).eps * float(expected.detach().abs().max())
    assert float((found.detach().double() - expected).abs().max()) < allowed


INPUTS = {
    "rows": lambda: states(ROWS, IN),
    "batch": lambda: states(8, ROWS // 8, IN),
    "transposed": lambda: states(ROWS // 8, 8, IN).transpose(0, 1),
    "columns": lambda: states(IN, ROWS).t(),
    "every other": lambda: states(ROWS, 2 * IN)[:, ::2],
    "expanded": lambda: states(1, 1, IN).expand(4, ROWS // 4, IN),
    "offset": lambda: states(ROWS * IN + 3)[3:].view(ROWS, IN),
}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("name", INPUTS)
def test_output_and_gradients(name: str, bias: bool, by_onednn: list[tuple[int, ...]]) -> None:
    module, x = layer(bias=bias), INPUTS[name]().detach().requires_grad_()
    out = module(x)
    direction = states(*out.shape)
    out.backward(direction)
    assert len(by_onednn) == 3
    expected = exact(module, x, direction)
    assert_near(out, expected["out"], IN)
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert_near(x.grad, expected["x"], OUT)
    assert module.weight.grad is not None
    assert_near(module.weight.grad, expected["weight"], ROWS)
    if module.bias is not None:
        assert module.bias.grad is not None
        assert_near(module.bias.grad, expected["bias"], ROWS)


def test_gradient_without_strides() -> None:
    """The gradient of a sum is one number seen everywhere."""
    module, x = layer(), states(ROWS, IN).requires_grad_()
    module(x).sum().backward()
    expected = exact(module, x, torch.ones(ROWS, OUT))
    assert x.grad is not None
    assert module.weight.grad is not None
    assert_near(x.grad, expected["x"], OUT)
    assert_near(module.weight.grad, expected["weight"], ROWS)


def test_frozen_weight_or_input(by_onednn: list[tuple[int, ...]]) -> None:
    module, x = layer(), states(ROWS, IN).requires_grad_()
    module.requires_grad_(False)
    module(x).sum().backward()
    assert x.grad is not None
    assert module.weight.grad is None
    assert len(by_onednn) == 2

    by_onednn.clear()
    module.requires_grad_(True)
    module(x.detach()).sum().backward()
    assert module.weight.grad is not None
    assert len(by_onednn) == 2

    module.bias.requires_grad_(False)
    module.bias.grad = None
    module(x).sum().backward()
    assert module.bias.grad is None


def test_no_graph_without_gradients() -> None:
    module, x = layer(), states(ROWS, IN)
    with torch.no_grad():
        assert module(x).grad_fn is None
    with torch.inference_mode():
        assert module(x).is_inference()
    module.requires_grad_(False)
    assert not module(x).requires_grad


def test_second_derivatives() -> None:
    """The penalty on a gradient's length, whose own gradient needs the second derivative."""
    module, x = layer(), states(ROWS, IN)
    found = {}
    for multiply in (module, lambda x: F.linear(x, module.weight, module.bias)):
        module.zero_grad()
        given = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(multiply(given).tanh().sum(), given, create_graph=True)
        gradient.square().sum().backward()
        assert module.weight.grad is not None
        found[multiply is module] = module.weight.grad.clone(), given.grad
    for ours, theirs in zip(found[True], found[False], strict=True):
        assert ours is not None
        assert theirs is not None
        assert_near(ours, theirs.double(), ROWS)


def test_function_transforms() -> None:
    module, x = layer(), states(ROWS, IN)

    def loss(weight: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"weight": weight}, (x,)).square().sum()

    expected = 2 * (F.linear(x, module.weight, module.bias).double().t() @ x.double())
    assert_near(torch.func.grad(loss)(module.weight.detach()), expected, ROWS)


def test_autocast_takes_its_own_product(by_onednn: list[tuple[int, ...]]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer()(states(ROWS, IN)).dtype is torch.bfloat16
    assert by_onednn == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_are_left_to_torch(dtype: torch.dtype, by_onednn: list[tuple[int, ...]]) -> None:
    assert layer().to(dtype)(states(ROWS, IN).to(dtype)).dtype is dtype
    assert by_onednn == []


def test_small_products_are_left_to_torch(by_onednn: list[tuple[int, ...]]) -> None:
    layer()(states(4, IN))
    layer()(states(0, IN))
    assert by_onednn == []


def test_each_product_has_its_own_choice(by_onednn: list[tuple[int, ...]]) -> None:
    """The gradient of the weight of a layer with few inputs is slow in oneDNN."""
    narrow, x = Linear(NARROW - 1, 256), states(512, NARROW - 1).requires_grad_()
    out = narrow(x)
    out.backward(torch.ones_like(out))
    assert by_onednn == [(512, NARROW - 1), (512, 256)]
    assert narrow.weight.grad is not None
    assert_near(narrow.weight.grad, exact(narrow, x, torch.ones(512, 256))["weight"], 512)

    by_onednn.clear()
    with used(Kernels({"weight gradient": (20, 20)})):
        out = layer()(states(ROWS, IN).requires_grad_())
        out.backward(torch.ones_like(out))
    assert by_onednn == [(OUT, ROWS)]


def test_mistakes_are_reported_by_torch() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        layer()(states(ROWS, 2 * IN))
    with pytest.raises(RuntimeError, match="same dtype"):
        layer().double()(states(ROWS, IN))


def test_the_same_bits_every_time() -> None:
    """Also from several threads at once, and in a copy at another place in memory."""
    module, x = layer(), states(ROWS, IN)
    first = module(x).detach()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: module(x.clone()).detach(), range(40)))
    assert all(torch.equal(first, result) for result in results)


def test_two_processes_give_the_same_bits() -> None:
    """This one, with all that other tests have left in it, and a fresh one."""
    program = (
        "import torch, hashlib\n"
        "from eir_seq.models.layers.kernels import RULE, used\n"
        "from eir_seq.models.layers.linear import Linear\n"
        "torch.manual_seed(0); layer = Linear(128, 160); x = torch.randn(256, 128, requires_grad=True)\n"
        "with used(RULE): layer(x).square().sum().backward()\n"
        "content = b''.join(t.numpy().tobytes() for t in (x.grad, layer.weight.grad, layer.bias.grad))\n"
        "print(hashlib.sha256(content).hexdigest())\n"
    )
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(program, {})
    fresh = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.getvalue() == fresh.stdout != ""
