"""Activations of products: in the memory of the product where nothing else reads it, with the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from eir_seq.models.layers.feed_forward import activations
from eir_seq.models.layers.feed_forward.activations import activated_product, activation
from eir_seq.models.layers.linear import Linear
from eir_seq.native import library


@pytest.mark.parametrize("name", sorted(activations._FUNCTIONS))
@pytest.mark.parametrize("gated", [False, True])
def test_activations_in_place_give_the_same_bits(name: str, gated: bool) -> None:
    torch.manual_seed(0)
    layer, x, factor = Linear(8, 24), torch.randn(5, 8), torch.randn(5, 24) if gated else None
    kept = x.clone(), None if factor is None else factor.clone()
    with library.without(), torch.no_grad():
        found = activated_product(layer, x, name, factor)
        expected = activation(name)(F.linear(x, layer.weight, layer.bias))
        expected = expected if factor is None else expected * factor
    assert torch.equal(found, expected)
    assert torch.equal(x, kept[0])
    assert factor is None or kept[1] is None or torch.equal(factor, kept[1])


def test_what_hooks_and_gradients_see_is_not_overwritten() -> None:
    torch.manual_seed(0)
    layer, x, seen = Linear(8, 24), torch.randn(5, 8), []
    product = F.linear(x, layer.weight, layer.bias).detach()
    with library.without():
        (gradient,) = torch.autograd.grad(activated_product(layer, x, "relu").sum(), layer.bias)
        assert torch.equal(gradient, (product > 0).float().sum(0))
        layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        with torch.no_grad():
            activated_product(layer, x, "relu")
    assert torch.equal(seen[0], product)
