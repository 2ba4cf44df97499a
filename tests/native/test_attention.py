"""The kernel of packed attention against plain operations, in double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.models.layers.attention.dot_product import kernel
from eir_seq.models.layers.attention.packed import packed_attention
from eir_seq.models.layers.attention.sliding_window import SlidingWindowAttention
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.layout import Layout
from eir_seq.models.layers.positions.relative import DistanceBias
from eir_seq.native import global_tokens, library, reference
from eir_seq.native.attention import attention
from tests.native.threads import assert_alike_with_all_numbers_of_threads

LENGTHS, OTHERS = (0, 1, 15, 16, 17, 63, 64, 65, 3, 193, 250), (2, 300, 1, 7, 190, 16, 33, 0, 5, 49, 48)
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 4e-2}
"""Of the largest value or of one. Float32 has 7 digits, and sums of some hundred numbers lose one or two;
bfloat16 has 3, and all of queries, keys, values, outputs and gradients are rounded."""


def draw(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator).to(dtype).requires_grad_()


def apart(found: Tensor, exact: Tensor) -> float:
    """The largest difference, as a share of the largest value or of one."""
    if not found.numel():
        return 0.0
    return float((found - exact).detach().abs().max()) / max(1.0, float(exact.detach().abs().max()))


def both(
    *,
    keys: tuple[int, ...] = LENGTHS,
    heads: tuple[int, int] = (2, 2),
    size: int = 16,
    dtype: torch.dtype = torch.float32,
    extra: str = "",
    **options: Any,
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and gradients of the kernel, and of plain operations in float64."""
    generator = torch.Generator().manual_seed(0)
    query = draw(generator, sum(LENGTHS), heads[0], size, dtype=dtype)
    key, value = (draw(generator, sum(keys), heads[1], size, dtype=dtype) for _ in range(2))
    leaves, longest = [query, key, value], max(keys)
    if extra == "distances":
        options |= {"distances": draw(generator, heads[0], 2 * longest + 1), "center": longest}
        leaves.append(options["distances"])
    elif extra == "biases":
        options["biases"] = [draw(generator, heads[0], n, m) for n, m in zip(LENGTHS, keys, strict=True)]
        leaves += options["biases"]
    elif extra == "shared":
        places = [[0, min(5, m - 1)] if m > 1 else [0, -1] if m else [-1, -1] for m in keys]
        options["shared"] = torch.tensor(places)
    direction = draw(generator, *query.shape, dtype=dtype).detach()
    torch.manual_seed(1)
    out = attention(query, key, value, LENGTHS, keys, scale=size**-0.5, **options)
    assert out.dtype is dtype
    found = [out, *torch.autograd.grad(out, leaves, direction)]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    q, k, v, *added = exact
    torch.manual_seed(1)
    dropout = options.get("dropout", 0.0)
    seed = int(torch.randint(2**63 - 1, ())) if dropout else 0
    window = options.get("before", -1), options.get("after", -1)
    problem = reference.Problem(LENGTHS, keys, *window, size**-0.5, dropout, seed, options.get("center", 0))
    distances = added[0] if extra == "distances" else None
    biases = added if extra == "biases" else []
    plain = reference.attention(q, k, v, problem, distances, options.get("shared"), biases)
    return found, [plain, *torch.autograd.grad(plain, exact, direction.double())]


@pytest.mark.parametrize("extra", ["", "distances", "biases", "shared"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    ("heads", "size", "window"),
    [
        ((2, 2), 16, {}),
        ((4, 2), 64, {"after": 0}),
        ((3, 1), 24, {"before": 20, "after": 20}),
        ((2, 2), 128, {"before": 9, "after": 0}),
        ((2, 2), 32, {"before": 4, "after": 4}),
    ],
)
@pytest.mark.usefixtures("kernels")
def test_outputs_and_gradients(
    heads: tuple[int, int], size: int, window: dict[str, Any], dropout: float, extra: str
) -> None:
    for found, exact in zip(*both(heads=heads, size=size, dropout=dropout, extra=extra, **window), strict=True):
        assert apart(found, exact) <= ROUNDING[torch.float32]


@pytest.mark.parametrize("extra", ["", "biases"])
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.usefixtures("kernels")
def test_other_texts_and_bfloat16(dtype: torch.dtype, extra: str) -> None:
    for found, exact in zip(*both(keys=OTHERS, size=40, dtype=dtype, extra=extra, dropout=0.1), strict=True):
        assert apart(found, exact) <= ROUNDING[dtype]


@pytest.mark.usefixtures("kernels")
def test_results_do_not_depend_on_threads_and_repeat() -> None:
    def compute() -> list[Tensor]:
        wide = both(extra="shared", before=30, after=30)[0]
        return [*both(extra="distances", dropout=0.2, size=32)[0], *wide, *both(extra="shared", before=4, after=4)[0]]

    assert_alike_with_all_numbers_of_threads(compute)


@pytest.mark.usefixtures("kernels")
def test_derivatives_of_derivatives() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = leaves = [draw(generator, 7, 2, 8) for _ in range(3)]

    def slopes(native: bool) -> tuple[Tensor, ...]:
        torch.manual_seed(3)
        if native:
            out = attention(q, k, v, (3, 4), (3, 4), after=0, dropout=0.5)
        else:
            seed = int(torch.randint(2**63 - 1, ()))
            out = reference.attention(q, k, v, reference.Problem((3, 4), (3, 4), -1, 0, 1.0, 0.5, seed))
        first = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(x.square().sum() for x in first), leaves)  # type: ignore[arg-type]

    for found, wanted in zip(slopes(True), slopes(False), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("bias", ["none", "dense", "distances"])
def test_packed_attention_takes_the_kernel(bias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from eir_seq.native import library

    generator = torch.Generator().manual_seed(0)
    query, key, value = (draw(generator, 12, heads, 8) for heads in (4, 2, 2))
    given = DistanceBias(draw(generator, 1, 15), 7) if bias == "distances" else None
    dense = [draw(generator, 1, 5, 5), draw(generator, 4, 1, 7)] if bias == "dense" else None
    leaves = [query, key, value, *([given.values] if given else dense or [])]
    results = []
    for native in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(library, "_choice", library.chosen() if native else None)
            calls = []
            operations = library.operations
            patch.setattr(library, "operations", lambda: calls.append(1) or operations())  # type: ignore[func-returns-value]  # noqa: B023
            out = packed_attention(query, key, value, (5, 7), (5, 7), causal=True, window=3, bias=given or dense)
            results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
            assert bool(calls) is native
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_random_bits_are_those_of_the_published_generator() -> None:
    """The vectors of Random123 for philox4x32 with 7 rounds."""
    zero = torch.zeros((), dtype=torch.long)
    words = [int(word) for word in reference.philox([zero] * 4, 0)]
    assert words == [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]
    ones = torch.tensor(2**32 - 1)
    words = [int(word) for word in reference.philox([ones] * 4, 2**64 - 1)]
    assert words == [0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662]


def test_dropped_weights() -> None:
    mask = reference.dropout_mask(5, 0.25, 3, 4, 100, torch.arange(100))
    assert mask.shape == (4, 100, 100)
    share = float((~mask).double().mean())
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / mask.numel()) ** 0.5  # four standard deviations
    assert not torch.equal(mask, reference.dropout_mask(6, 0.25, 3, 4, 100, torch.arange(100)))
    assert not torch.equal(mask[0], mask[1])
    assert not torch.equal(mask, reference.dropout_mask(5, 0.25, 2, 4, 100, torch.arange(100)))


def test_queries_that_see_nothing_weigh_all_keys_alike() -> None:
    """As torch does where all scores get the least number; padded texts of deberta have such queries."""
    query, key, value = torch.randn(3, 1, 2, 40, 16).unbind()
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., 30:, :] = torch.finfo(torch.float32).min
    found = kernel(query, key, value, mask, 0.0, 0.25, causal=False)
    assert apart(found[:, :, 30:], value.mean(2, keepdim=True).expand(-1, -1, 10, -1)) < ROUNDING[torch.float32]


@pytest.mark.usefixtures("kernels")
def test_global_tokens_of_packed_texts() -> None:
    """They see their whole text by the kernel as by torch's operations; texts have none, one or two of them."""
    lengths, marked = (3, 40, 17), torch.zeros(3, 40)
    marked[1, 0] = marked[2, 0] = marked[2, 9] = 1
    mask = torch.arange(40)[None] < torch.tensor(lengths)[:, None]
    layout = Layout.padded(3, 40, mask).without_padding()
    torch.manual_seed(0)
    layer = SlidingWindowAttention.Config(hidden_size=32, num_heads=2, reach=2).build()
    x = torch.randn(sum(lengths), 32, requires_grad=True)
    above = torch.randn(sum(lengths), 32)

    def found() -> list[Tensor]:
        context = Context(
            layout, layout.pack(torch.arange(40).expand(3, 40)), features={"global_attention_mask": marked}
        )
        out = layer(x, context)
        return [out, *torch.autograd.grad(out, [x, *layer.parameters()], above)]

    native = found()
    with library.without():
        plain = found()
    for ours, theirs in zip(native, plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_global_tokens_and_their_derivatives(dropout: float) -> None:
    """As spelled out, with the same dropout, and gradients of gradients, too."""
    generator = torch.Generator().manual_seed(0)
    lengths, counts, places = (3, 230, 17), (0, 1, 2), torch.tensor([3, 233, 242])
    x, direction = draw(generator, sum(lengths), 32), draw(generator, 3, 32).detach()
    parameters = [draw(generator, 32, *rest).detach() / 6 for rest in ((32,), ()) * 3]  # states keep their size
    problem = reference.Problem((0, 2, 4), lengths, -1, -1, 0.1, dropout, 0)
    results = []
    for native in (True, False):
        dtype = torch.float32 if native else torch.float64
        leaves = [leaf.detach().to(dtype).requires_grad_() for leaf in (x, *parameters)]
        torch.manual_seed(3)
        if native:
            q, k, v = zip(leaves[1::2], leaves[2::2], strict=True)
            out = global_tokens.global_tokens(
                leaves[0], places, counts, lengths, q, k, v, heads=2, dropout=dropout, scale=0.1
            )
        else:
            call = global_tokens.Call(places, problem._replace(seed=library.drawn_seed(dropout)), 2)
            out = global_tokens._spelled_out(leaves[0], call, leaves[1:])
        first = torch.autograd.grad(out, leaves, direction.to(out.dtype), retain_graph=True)
        again = torch.autograd.grad(out, leaves, direction.to(out.dtype), create_graph=True)
        second = torch.autograd.grad(sum(grad.square().sum() for grad in again), leaves)  # type: ignore[arg-type]
        results.append([out, *first, *again, *second])
    for found, wanted in zip(*results, strict=True):
        assert apart(found, wanted) <= 10 * ROUNDING[torch.float32]  # a chain of four products
    assert not results[0][5].any(), "no gradient of the bias of keys: the softmax ignores it"


@pytest.mark.usefixtures("kernels")
def test_what_shared_tokens_see_is_given() -> None:
    """Instead of what their windows show, with all gradients, also those of gradients."""
    generator = torch.Generator().manual_seed(0)
    leaves = [*(draw(generator, 40, 2, 16) for _ in range(3)), draw(generator, 3, 2, 16)]
    direction = draw(generator, 40, 2, 16).detach()
    how: dict[str, Any] = {"window": 4, "shared": ((2,), (10, 35)), "own": leaves[3], "dropout": 0.0}
    out = packed_attention(*leaves[:3], (10, 30), (10, 30), **how)
    with library.without():
        torch.testing.assert_close(packed_attention(*leaves[:3], (10, 30), (10, 30), **how), out)
    problem = reference.Problem((10, 30), (10, 30), 3, 3, 0.25, 0.0, 0)
    exact = reference.attention(*leaves[:3], problem, shared=torch.tensor([[2, -1], [0, 25]]))
    results = []
    for mixed in (out, exact.index_copy(0, torch.tensor([2, 10, 35]), leaves[3])):
        quick = torch.autograd.grad(mixed, leaves, direction, retain_graph=True)
        first = torch.autograd.grad(mixed, leaves, direction, create_graph=True)
        second = torch.autograd.grad(sum(grad.square().sum() for grad in first), leaves[:3])  # type: ignore[arg-type]
        results.append([mixed, *quick, *first, *second])
    for found, wanted in zip(*results, strict=True):
        assert apart(found, wanted) <= 10 * ROUNDING[torch.float32]
