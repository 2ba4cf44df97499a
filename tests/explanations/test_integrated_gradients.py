"""The method alone: against closed forms, against a brute-force integral, and where a score is hard to follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eir_seq.explanations.config import IntegratedGradientsConfig
from eir_seq.explanations.integrated_gradients import explain

CONFIG = IntegratedGradientsConfig()


@pytest.fixture
def row() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(5, 4, generator=draw), torch.randn(5, 4, generator=draw)


def test_a_bag_of_vectors_is_divided_as_its_weights_say(row: tuple[Tensor, Tensor]) -> None:
    given, baseline = row
    weights = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    found = explain(CONFIG, lambda x: x.mean(dim=1) @ weights + 7, given, baseline)
    assert torch.allclose(found.values.float(), ((given - baseline) @ weights).T / 5, atol=1e-6)
    assert torch.allclose(found.score.float(), given.mean(dim=0) @ weights + 7, atol=1e-5)
    assert torch.allclose(found.gap, torch.zeros(3, dtype=torch.float64), atol=1e-5)


def scores_of_a_network(x: Tensor) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        layers = nn.Sequential(nn.Flatten(), nn.Linear(20, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 2))
    found: Tensor = layers(x)
    return found


def test_a_network_has_the_integral_of_its_gradients(row: tuple[Tensor, Tensor]) -> None:
    """That of 20,000 steps of the midpoint rule, and of the 50 points of captum's formula, which is as exact here."""
    given, baseline = row
    found = explain(CONFIG.model_copy(update={"tolerance": 1e-4}), scores_of_a_network, given, baseline)
    nodes, weights = np.polynomial.legendre.leggauss(50)
    midpoints = (np.arange(20_000) + 0.5) / 20_000
    for places, shares in ((midpoints, np.full(20_000, 1 / 20_000)), ((nodes + 1) / 2, weights / 2)):
        at = torch.tensor(places, dtype=torch.float32)[:, None, None]
        points = (baseline + at * (given - baseline)).requires_grad_()
        for target in range(2):
            (gradient,) = torch.autograd.grad(scores_of_a_network(points)[:, target].sum(), points)
            mean = (torch.tensor(shares, dtype=torch.float32)[:, None, None] * gradient).sum(dim=0)
            expected = ((given - baseline) * mean).sum(dim=1)
            # the tolerance asked for, of numbers that are about 0.1
            assert torch.allclose(found.values[target].float(), expected, atol=1e-4), target


def test_batches_of_points_make_no_difference(row: tuple[Tensor, Tensor]) -> None:
    one, many = (
        explain(CONFIG.model_copy(update={"batch_size": size}), scores_of_a_network, *row).values for size in (1, 64)
    )
    assert torch.allclose(one, many, atol=1e-6)


def test_a_norm_near_zero_is_followed(row: tuple[Tensor, Tensor]) -> None:
    """With zeros as the baseline, all of the score changes on the first millionth of the path."""
    given, weights, calls = row[0], row[1].flatten(), 0

    def scores(x: Tensor) -> Tensor:
        nonlocal calls
        calls += x.requires_grad * len(x)
        flat = x.flatten(1)
        return (flat / (flat.square().mean(dim=1, keepdim=True) + 1e-12).sqrt() @ weights)[:, None]

    found = explain(CONFIG, scores, given, torch.zeros_like(given))
    size = found.values.abs().sum()
    assert float(found.score) != pytest.approx(0, abs=0.1)
    assert float(found.gap.abs()) <= CONFIG.tolerance * float(size)
    assert calls <= CONFIG.max_steps


def test_what_a_jump_adds_is_the_gap() -> None:
    """A step by 3 has no gradient; the rest is divided as ever, and the search for the step ends."""
    given, calls = torch.ones(5, 4), 0

    def scores(x: Tensor) -> Tensor:
        nonlocal calls
        calls += x.requires_grad * len(x)
        height = x.mean(dim=(1, 2))
        return (height + 3 * (height > 0.3))[:, None]

    found = explain(CONFIG, scores, given, torch.zeros(5, 4))
    assert torch.allclose(found.values, torch.full((1, 5), 0.2, dtype=torch.float64), atol=1e-6)
    assert float(found.gap) == pytest.approx(-3, abs=1e-5)
    assert CONFIG.max_steps / 2 < calls <= CONFIG.max_steps


def test_a_score_that_does_not_depend_on_the_input(row: tuple[Tensor, Tensor]) -> None:
    found = explain(CONFIG, lambda x: torch.full((len(x), 2), 3.0), *row)
    assert found.values.tolist() == [[0.0] * 5] * 2
    assert found.gap.tolist() == [0.0, 0.0]


def test_parts_that_are_not_varied_add_nothing(row: tuple[Tensor, Tensor]) -> None:
    given, baseline = row[0], row[1].clone()
    baseline[[0, 4]] = given[[0, 4]]
    values = explain(CONFIG, scores_of_a_network, given, baseline).values
    assert (values[:, [0, 4]] == 0).all()
    assert (values[:, 1:4] != 0).all()
