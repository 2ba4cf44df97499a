"""Sparse experts: grouped products, who goes where, the loss that wants all of them used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.layers.moe.experts import Experts, balance_loss, grouped_linear, grouped_outer

COUNTS = torch.tensor([3, 0, 2, 1])


def numbers(*shape: int, seed: int = 0) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.requires_grad_()


def test_products_of_groups() -> None:
    """Each row meets the matrix of its group; rows of no group are zero."""
    x, weight = numbers(8, 5), numbers(4, 3, 5)
    product = grouped_linear(x, weight, COUNTS)
    groups = [0, 0, 0, 2, 2, 3]
    expected = torch.stack([weight[group] @ row for group, row in zip(groups, x, strict=False)])
    torch.testing.assert_close(product[:6], expected)
    assert torch.equal(product[6:], torch.zeros(2, 3, dtype=torch.float64))


def test_gradients_of_products() -> None:
    """First and second derivatives, by small changes."""
    x, weight, left = numbers(6, 4), numbers(4, 3, 4), numbers(6, 3, seed=1)
    assert torch.autograd.gradcheck(lambda *given: grouped_linear(*given, COUNTS), (x, weight))
    assert torch.autograd.gradgradcheck(lambda *given: grouped_linear(*given, COUNTS), (x, weight))
    assert torch.autograd.gradcheck(lambda *given: grouped_outer(*given, COUNTS), (left, x))


@pytest.mark.parametrize("operation", [grouped_linear, grouped_outer])
def test_operations_keep_torchs_rules(operation: Any) -> None:
    other = numbers(4, 3, 4) if operation is grouped_linear else numbers(6, 4)
    torch.library.opcheck(operation, (numbers(6, 4) if operation is grouped_linear else numbers(6, 3), other, COUNTS))


def experts(count: int, *, gated: bool) -> Experts:
    torch.manual_seed(0)
    made: Experts = Experts.Config(count=count, hidden_size=6, inner_size=4, activation="silu", gated=gated).build()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made.double()


@pytest.mark.parametrize("gated", [True, False])
def test_tokens_through_their_experts(gated: bool) -> None:
    """One after the other, each token through its choices; `count` is none of them."""
    made, x, weights = experts(3, gated=gated), numbers(5, 6), numbers(5, 2, seed=1)
    chosen = torch.tensor([[0, 2], [2, 0], [1, 3], [3, 3], [0, 1]])
    expected = torch.zeros_like(x)
    for token in range(5):
        for choice, weight in zip(chosen[token].tolist(), weights[token], strict=True):
            if choice < 3:
                up = made.up[choice] @ x[token]
                inner = F.silu(up) if made.gate is None else F.silu(made.gate[choice] @ x[token]) * up
                expected[token] = expected[token] + weight * (made.down[choice] @ inner)
    torch.testing.assert_close(made(x, chosen, weights), expected)


def test_an_expert_without_tokens_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the experts that are chosen are computed, each for its own tokens."""
    sizes = []

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        sizes.append(len(x))
        return F.linear(x, weight, bias)

    monkeypatch.setattr("eir_seq.models.layers.moe.experts.linear", counted)
    with torch.no_grad():
        experts(8, gated=True)(numbers(5, 6), torch.tensor([[1], [1], [6], [1], [6]]), torch.ones(5, 1))
    assert sizes == [3, 3, 3, 2, 2, 2]


def test_no_tokens_at_all() -> None:
    x = torch.zeros(0, 6, dtype=torch.float64)
    assert experts(2, gated=True)(x, torch.zeros(0, 1, dtype=torch.long), x[:, :1]).shape == (0, 6)


def test_balance() -> None:
    """Equal use costs `per_token`, one expert for all costs the number of experts; padding does not count."""
    even = torch.eye(4)[torch.arange(8) % 4].view(2, 4, 4) * 20
    one = torch.eye(4)[torch.zeros(2, 4, dtype=torch.long)] * 20
    assert balance_loss([even, even], 1, None) == pytest.approx(1.0, abs=1e-5)
    assert balance_loss([one, one], 1, None) == pytest.approx(4.0, abs=1e-5)
    assert balance_loss([torch.zeros(2, 4, 4)], 2, None) == pytest.approx(2.0, abs=1e-5)
    real = torch.tensor([[True, True, True, True], [False] * 4])
    mixed = torch.cat((even[:1], one[1:]))
    assert balance_loss([mixed], 1, real) == pytest.approx(1.0, abs=1e-5)
