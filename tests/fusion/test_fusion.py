from __future__ import annotations

import pytest
import torch

from eir_seq.config.fusion import (
    AttentionFusionConfig,
    ConcatFusionConfig,
    FusionBase,
    GatedExpertsFusionConfig,
    MlpResidualFusionConfig,
)
from eir_seq.errors import UserError
from eir_seq.fusion import build_fusion
from eir_seq.models.layers.stochastic_depth import StochasticDepth

CONFIGS: list[FusionBase] = [
    ConcatFusionConfig(),
    MlpResidualFusionConfig(hidden_size=16),
    AttentionFusionConfig(hidden_size=16, num_heads=4),
    GatedExpertsFusionConfig(hidden_size=16, num_experts=3),
]
SIZES = {"text": 6, "keys": 3, "a-b": 5}  # `keys` is also the name of a method of ModuleDict


def features(batch: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn(batch, size) for name, size in SIZES.items()}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.type)
class TestEveryFusion:
    def test_gives_each_output_its_features(self, config: FusionBase) -> None:
        fusion = build_fusion(config, SIZES, ["items", "b"])
        fused = fusion(features())
        assert {name: tuple(value.shape) for name, value in fused.items()} == dict.fromkeys(
            ["items", "b"], (4, fusion.output_size)
        )

    def test_every_input_and_parameter_takes_part(self, config: FusionBase) -> None:
        fusion = build_fusion(config, SIZES, ["a", "b"]).eval()
        given = {name: value.requires_grad_() for name, value in features().items()}
        sum((value**2).sum() for value in fusion(given).values()).backward()
        # the final norm centres what it gives out, so a shift alone may leave no gradient; the square does not
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in given.values())
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in fusion.parameters())

    def test_rows_do_not_see_each_other_in_evaluation(self, config: FusionBase) -> None:
        fusion = build_fusion(config, SIZES, ["a"]).eval()
        full = fusion(features())["a"]
        alone = fusion({name: value[2:3] for name, value in features().items()})["a"]
        torch.testing.assert_close(full[2:3], alone, atol=1e-6, rtol=0)

    def test_one_input_is_enough(self, config: FusionBase) -> None:
        fusion = build_fusion(config, {"text": 6}, ["a"])
        assert fusion({"text": torch.randn(2, 6)})["a"].shape == (2, fusion.output_size)


def test_gates_differ_between_outputs() -> None:
    fused = build_fusion(CONFIGS[3], SIZES, ["a", "b"]).eval()(features())
    assert not torch.allclose(fused["a"], fused["b"])


def test_layers_of_the_attention_fusion_start_apart() -> None:
    layers = build_fusion(CONFIGS[2], SIZES, ["a"]).layers.layers
    assert not torch.equal(layers[0].linear1.weight, layers[1].linear1.weight)


def test_heads_must_divide_the_hidden_size() -> None:
    with pytest.raises(UserError, match=r"fusion\.num_heads: 5 heads do not divide fusion\.hidden_size 16"):
        build_fusion(AttentionFusionConfig(hidden_size=16, num_heads=5), SIZES, ["a"])


def test_stochastic_depth_drops_whole_rows_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = StochasticDepth(0.25)
    out = layer(torch.ones(20_000, 3))
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert torch.equal(out[:, 0], out[:, 1])
    assert out.mean().item() == pytest.approx(1, abs=0.02)  # five standard errors of 20,000 draws
    assert torch.equal(layer.eval()(torch.ones(5, 3)), torch.ones(5, 3))
