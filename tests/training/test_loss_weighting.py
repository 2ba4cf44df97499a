"""Weights of the losses of several outputs: as published, the same for any micro-batches, trained and logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eir_seq.config.fusion import ConcatFusionConfig, FusionBase, MlpResidualFusionConfig
from eir_seq.config.schema import TrainerConfig
from eir_seq.config.training import FixedWeightingConfig, GradNormConfig, UncertaintyWeightingConfig
from eir_seq.errors import UserError
from eir_seq.fusion import build_fusion
from eir_seq.outputs.classification.config import ClassificationOutputConfig
from eir_seq.outputs.regression.config import RegressionOutputConfig
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.network import Network
from eir_seq.training.run import train
from eir_seq.training.weighting import GradNorm, LossWeighting, UncertaintyWeighting
from tests.training.fakes import FEATURES, Encoder
from tests.training.table import table_experiment

OUTPUTS: dict[str, Any] = {
    "a": ClassificationOutputConfig(column="a", loss_weight=2.0),
    "b": RegressionOutputConfig(column="b"),
    "c": RegressionOutputConfig(column="c"),
}
GRADNORM: dict[str, Any] = {**OUTPUTS, "a": ClassificationOutputConfig(column="a")}


def network(fusion: FusionBase | None = None) -> Network:
    torch.manual_seed(0)
    config = fusion or MlpResidualFusionConfig(hidden_size=8, dropout=0.0, stochastic_depth=0.0)
    fused = build_fusion(config, {"x": Encoder.output_size}, list(OUTPUTS))
    net = Network({"x": Encoder()}, fused, {name: nn.Linear(fused.output_size, 1) for name in OUTPUTS})
    return net.eval()


def losses_of(net: Network, rows: Tensor, scales: dict[str, float], of: int | None = None) -> dict[str, Tensor]:
    """Sums of squares over the rows, divided by the number of all rows of a step."""
    raw = net({"x": {"values": rows}})
    return {
        name: scale * (raw[name] - rows[:, :1]).square().sum() / (of or len(rows)) for name, scale in scales.items()
    }


SCALES = {"a": 1.0, "b": 5.0, "c": 0.2}


def rows_of(seed: int) -> Tensor:
    return torch.randn(6, FEATURES, generator=torch.Generator().manual_seed(seed))


def test_fixed_is_the_weighted_sum() -> None:
    weighting = LossWeighting(FixedWeightingConfig(), OUTPUTS, network())
    losses = {"a": torch.tensor(1.0), "b": torch.tensor(2.0), "c": torch.tensor(4.0)}
    assert weighting(losses, 1.0, list(losses), 1.0) == 2 * 1 + 2 + 4
    assert weighting.weights() == {}
    assert not list(weighting.parameters())


def test_uncertainty_is_that_of_the_paper() -> None:
    weighting = UncertaintyWeighting(UncertaintyWeightingConfig(), OUTPUTS, network())
    with torch.no_grad():
        weighting.log_variance.copy_(torch.tensor([0.3, -0.5, 0.7]))
    losses = {"a": torch.tensor(1.1), "b": torch.tensor(2.0), "c": torch.tensor(4.0)}
    variance = weighting.log_variance.detach().exp()
    sigma = variance.sqrt()
    expected = 2 * (losses["a"] / variance[0] + sigma[0].log())
    expected = expected + losses["b"] / (2 * variance[1]) + sigma[1].log() + losses["c"] / (2 * variance[2])
    total = weighting(losses, 1.0, ["a", "b"], 1.0)  # no row of the step has a target of c, whose loss is then 0
    torch.testing.assert_close(total, expected)
    found = weighting.weights()
    assert found == pytest.approx(
        {"a": float(2 / variance[0]), "b": float(0.5 / variance[1]), "c": float(0.5 / variance[2])}
    )


@pytest.mark.parametrize("kind", ["uncertainty", "gradnorm"])
def test_micro_batches_add_up_to_the_step(kind: str) -> None:
    found = {}
    for sizes in ([6], [1, 2, 3]):
        net, rows = network(), rows_of(0)
        weighting: LossWeighting
        if kind == "uncertainty":
            weighting = UncertaintyWeighting(UncertaintyWeightingConfig(), OUTPUTS, net)
        else:
            weighting = GradNorm(GradNormConfig(), GRADNORM, net)
        for _ in range(2):
            for part in rows.split(sizes):
                losses = losses_of(net, part, SCALES, of=6)
                weighting(losses, len(part) / 6, list(SCALES), 1.0).backward()
            weighting.end_step()
        found[len(sizes)] = [p.grad for p in [*net.parameters(), *weighting.parameters()] if p.grad is not None]
        found[len(sizes)] += [value for name, value in weighting.named_buffers() if name in ("weight", "first")]
    assert len(found[1]) > 5
    for one, several in zip(found[1], found[3], strict=True):
        torch.testing.assert_close(one, several, rtol=1e-4, atol=1e-5)  # sums in another order


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_gradnorm_is_that_of_the_paper(scale: float) -> None:
    """Algorithm 1 by autograd and torch's Adam, on the last matrix of the fusion."""
    net, alpha = network(), 0.8
    weighting = GradNorm(GradNormConfig(alpha=alpha, lr=0.1), GRADNORM, net)
    weights = nn.Parameter(torch.ones(3))
    optimizer, first = torch.optim.Adam([weights], lr=0.1), torch.ones(3)
    assert net.fusion is not None
    layer = [p for p in net.fusion.parameters() if p.dim() == 2][-1]
    for step in range(4):
        losses = losses_of(net, rows_of(step), SCALES)
        values = torch.stack(list(losses.values()))
        if step == 0:
            first = values.detach()
        norms = torch.stack(
            [
                torch.autograd.grad(weights[i] * values[i], layer, retain_graph=True, create_graph=True)[0].norm()
                for i in range(3)
            ]
        )
        shares = values.detach() / first
        target = norms.detach().mean() * (shares / shares.mean()) ** alpha
        optimizer.zero_grad()
        (weights.grad,) = torch.autograd.grad((norms - target).abs().sum(), weights, retain_graph=True)
        expected = (weights.detach() * values.detach()).sum()
        optimizer.step()
        with torch.no_grad():
            weights.mul_(3 / weights.sum())
        total = weighting(losses, 1.0, list(SCALES), scale)
        torch.testing.assert_close(total.detach(), expected)
        weighting.end_step()
        torch.testing.assert_close(weighting.weight, weights.detach(), rtol=1e-4, atol=1e-5)
    assert weighting.weights()["b"] < 0.8 < 1.2 < weighting.weights()["c"]


def test_gradnorm_leaves_out_outputs_without_targets_and_values_that_are_not_finite() -> None:
    net = network()
    weighting = GradNorm(GradNormConfig(), GRADNORM, net)
    losses = losses_of(net, rows_of(0), {**SCALES, "c": 0.0})
    weighting(losses, 1.0, ["a", "b"], 1.0)
    weighting.end_step()
    assert weighting.first[:2].isfinite().all()
    assert weighting.first[2].isnan()
    assert weighting.weight[0] > 1 > weighting.weight[1]
    before = weighting.weight.clone()
    weighting(losses_of(net, rows_of(1) * torch.inf, SCALES), 1.0, list(SCALES), 1.0)
    weighting.end_step()
    assert torch.equal(weighting.weight, before)


def test_gradnorm_needs_something_to_share() -> None:
    net = network(ConcatFusionConfig())
    encoder: Any = net.encoder("x")
    (shared,) = GradNorm(GradNormConfig(), GRADNORM, net)._candidates
    assert shared is encoder.linear.weight
    encoder.requires_grad_(False)
    with pytest.raises(UserError, match="'gradnorm' needs a trained layer that all outputs share"):
        GradNorm(GradNormConfig(), GRADNORM, net)


def test_a_name_stands_for_the_defaults() -> None:
    config = TrainerConfig.model_validate({"loss_weighting": "gradnorm"})
    assert config.loss_weighting == GradNormConfig()
    assert TrainerConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("kind", ["uncertainty", "gradnorm"])
def test_weights_are_trained_and_logged(kind: str, tmp_path: Path) -> None:
    config = table_experiment(tmp_path, trainer={"max_epochs": 1, "loss_weighting": kind})
    train(config)
    found = [m for m in read_metrics(tmp_path / "run" / "metrics.csv") if m.metric == "weight"]
    assert {m.output for m in found} == {"mood", "score"}
    first = {"mood": 1.0, "score": 0.5 if kind == "uncertainty" else 1.0}
    assert all(m.value != first[m.output] and m.split == "train" for m in found)
