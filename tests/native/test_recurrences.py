"""Recurrences by the kernels, against torch's operations in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from eir_seq.models import create_model
from eir_seq.models.families.mamba.selective_scan import selective_scan
from eir_seq.models.families.rwkv.wkv import wkv
from eir_seq.native import library, recurrences
from tests.native.threads import assert_alike_with_all_numbers_of_threads

pytestmark = pytest.mark.usefixtures("kernels")


def kinds(width: int, length: int) -> dict[str, tuple[Callable[..., tuple[Tensor, object]], tuple[object, ...]]]:
    """Each recurrence with inputs: two texts that go on from some states."""
    draw, batch, size = torch.randn, 2, 5
    sums = draw(batch, width), draw(batch, width).exp(), 3 * draw(batch, width)
    key = 5 * draw(batch, length, width)
    key[0, 1:] = -1e38  # padding
    step, rates = draw(batch, length, width).exp(), -draw(size, width).exp()
    scanned = (*draw(2, batch, length, size).unbind(), draw(batch, size, width))
    return {
        "wkv": (wkv, (key, draw(batch, length, width), draw(width).exp(), draw(width), sums)),
        "scan": (selective_scan, (draw(batch, length, width), step, rates, *scanned)),
    }


def flat(nested: object) -> list[Tensor]:
    """The tensors of nested tuples."""
    if isinstance(nested, Tensor):
        return [nested]
    assert isinstance(nested, tuple)
    return [x for part in nested for x in flat(part)]


def doubled(nested: object) -> object:
    """Tensors in double precision."""
    return nested.double() if isinstance(nested, Tensor) else tuple(map(doubled, nested))  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", ["wkv", "scan"])
@pytest.mark.parametrize(("width", "length"), [(16, 1), (80, 37), (128, 9)])
def test_equals_the_plain_operations_with_any_number_of_threads(kind: str, width: int, length: int) -> None:
    torch.manual_seed(width)
    function, given = kinds(width, length)[kind]
    assert recurrences.serves(*flat(given))
    found = flat(function(*given))
    exact = flat(function(*doubled(given)))  # type: ignore[misc]
    for one, two in zip(found, exact, strict=True):
        torch.testing.assert_close(one.double(), two, rtol=2e-5, atol=2e-5)
    assert_alike_with_all_numbers_of_threads(lambda: flat(function(*given)))


@pytest.mark.parametrize("name", ["rwkv", "mamba"])
def test_packed_texts_of_a_model(name: str) -> None:
    """Those of padded texts, one by one, by torch's operations; with gradients these compute."""
    torch.manual_seed(1)
    model = create_model(name, {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 50}).eval()
    ids, lengths = torch.randint(50, (3, 23)), torch.tensor([23, 4, 11])
    mask = (torch.arange(23) < lengths[:, None]).long()
    with library.without():
        trained = model(ids, mask).last_hidden_state
    again = model(ids, mask).last_hidden_state
    assert torch.equal(trained * mask[..., None], again * mask[..., None]) or name == "mamba"  # whose norm has a kernel
    with torch.no_grad():
        found = model(ids, mask).last_hidden_state
    torch.testing.assert_close(found * mask[..., None], trained * mask[..., None], rtol=1e-4, atol=1e-5)


def test_serves_only_what_the_kernels_compute() -> None:
    x = torch.randn(1, 2, 16)
    assert recurrences.serves(x)
    assert not recurrences.serves(x.double())
    assert not recurrences.serves(x[..., :15])
    assert not recurrences.serves(x, states=65)
    assert not recurrences.serves(x, x.clone().requires_grad_())
    with torch.no_grad():
        assert recurrences.serves(x.clone().requires_grad_())
