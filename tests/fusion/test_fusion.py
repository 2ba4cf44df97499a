from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eir_seq.config.fusion import (
    AttentionFusionConfig,
    AutoFusionConfig,
    ConcatFusionConfig,
    CrossAttentionFusionConfig,
    FusionBase,
    GatedExpertsFusionConfig,
    IdentityFusionConfig,
    LinearFusionConfig,
    MlpResidualFusionConfig,
    MlpResidualSumFusionConfig,
    PassThroughFusionConfig,
    of_earlier_version,
)
from eir_seq.config.heads import MlpResidualHeadConfig
from eir_seq.errors import UserError
from eir_seq.fusion import Fusion, build_fusion
from eir_seq.fusion.heads import ResidualTrunk
from eir_seq.models.layers.stochastic_depth import StochasticDepth
from eir_seq.models.output import TokenStates
from eir_seq.outputs.base import read_state
from eir_seq.training.folder import read_config

SIZES = {"text": 6, "keys": 3, "a-b": 5}  # `keys` is also the name of a method of ModuleDict
ATTENTION: dict[str, Any] = {"hidden_size": 16, "num_heads": 4, "num_layers": 2}
CONFIGS: dict[str, FusionBase] = {
    "concat": ConcatFusionConfig(),
    "identity": IdentityFusionConfig(),
    "linear": LinearFusionConfig(hidden_size=4),
    "mlp-residual": MlpResidualFusionConfig(),
    "projected": MlpResidualFusionConfig(hidden_size=16),
    "auto": AutoFusionConfig(),
    "sum": MlpResidualSumFusionConfig(),
    "attention": AttentionFusionConfig(**ATTENTION),
    "summary": AttentionFusionConfig(**ATTENTION, pool="summary"),
    "states": AttentionFusionConfig(**ATTENTION, over="states", pool="avg"),
    "states, summary": AttentionFusionConfig(**ATTENTION, over="states", pool="summary"),
    "cross-attention": CrossAttentionFusionConfig(**ATTENTION, query="text"),
    "cross-attention, avg": CrossAttentionFusionConfig(**ATTENTION, query="a-b", pool="avg"),
    "gated-experts": GatedExpertsFusionConfig(hidden_size=16, num_experts=3, num_layers=1),
}
LENGTHS = {"text": (3, 2, 4, 1), "keys": (1, 1, 1, 1), "a-b": (2, 5, 1, 3)}


def features(fusion: Fusion, rows: Sequence[int] = range(4)) -> dict[str, Any]:
    """Vectors of some rows, or states with whatever stands at padding."""
    torch.manual_seed(1)
    found: dict[str, Any] = {}
    for name, size in SIZES.items():
        lengths = torch.tensor(LENGTHS[name])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        states = torch.randn(*mask.shape, size).masked_fill(~mask[..., None], torch.inf)
        longest = int(lengths[list(rows)].max())
        states, mask = states[list(rows), :longest], mask[list(rows), :longest]
        found[name] = TokenStates(states, mask) if fusion.reads_states else states[:, 0]
    return found


def noisy(module: nn.Module) -> nn.Module:
    """The same with noise on each parameter: some begin with zeros."""
    torch.manual_seed(2)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
class TestEveryFusion:
    def test_gives_each_output_its_features(self, config: FusionBase) -> None:
        fusion = build_fusion(config, SIZES, ["items", "b"])
        fused = fusion(features(fusion))
        assert {name: tuple(value.shape) for name, value in fused.items()} == {
            name: (4, fusion.size_of(name)) for name in ("items", "b")
        }

    def test_every_input_and_parameter_takes_part(self, config: FusionBase) -> None:
        fusion = build_fusion(config, SIZES, ["a", "b"]).eval()
        noisy(fusion)
        given = features(fusion)
        tensors = [x.states if isinstance(x, TokenStates) else x for x in given.values()]
        for tensor in tensors:
            tensor.requires_grad_()
        sum((value**2).sum() for value in fusion(given).values()).backward()
        # the final norm centres what it gives out, so a shift alone may leave no gradient; the square does not
        assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in tensors)
        assert all(x.grad is not None and x.grad.isfinite().all() for x in tensors)
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in fusion.parameters())

    def test_rows_see_neither_each_other_nor_padding(self, config: FusionBase) -> None:
        fusion = build_fusion(config, SIZES, ["a"]).eval()
        noisy(fusion)
        full = fusion(features(fusion))["a"]
        for row in range(4):
            torch.testing.assert_close(full[[row]], fusion(features(fusion, [row]))["a"], atol=1e-5, rtol=0)

    def test_one_input_is_enough(self, config: FusionBase) -> None:
        if isinstance(config, CrossAttentionFusionConfig):
            return  # a rule demands two
        fusion = build_fusion(config, {"text": 6}, ["a"])
        given: Any = torch.randn(2, 6)
        if fusion.reads_states:
            given = TokenStates(given[:, None], torch.ones(2, 1, dtype=torch.bool))
        assert fusion({"text": given})["a"].shape == (2, fusion.size_of("a"))


def test_auto_is_concat_for_one_input_and_residual_blocks_for_several_or_with_options() -> None:
    assert AutoFusionConfig().chosen(["a"]) == ConcatFusionConfig()
    assert AutoFusionConfig().chosen(["a", "b"]) == MlpResidualFusionConfig()
    config = AutoFusionConfig(num_layers=1, hidden_size=8)
    assert config.chosen(["a"]) == MlpResidualFusionConfig(num_layers=1, hidden_size=8)


@pytest.mark.parametrize(("size", "width"), [(40, 40), (300, 256)])
def test_residual_blocks_begin_as_the_features(size: int, width: int) -> None:
    fusion: Any = build_fusion(MlpResidualFusionConfig(num_layers=3), {"a": size}, ["y"]).eval()
    x = torch.randn(4, size)
    torch.testing.assert_close(fusion({"a": x})["y"], fusion.project(x))
    assert isinstance(fusion.project, nn.Identity) == (size == width)
    normed: Any = build_fusion(MlpResidualFusionConfig(num_layers=3, output_norm=True), {"a": size}, ["y"]).eval()
    torch.testing.assert_close(normed({"a": x})["y"], nn.functional.layer_norm(normed.project(x), [width]))


def test_the_sum_of_inputs_has_the_spread_of_one() -> None:
    fusion: Any = build_fusion(MlpResidualSumFusionConfig(hidden_size=64), SIZES, ["y"]).eval()
    given = features(fusion)
    projected = [fusion.project[f"of_{name}"](given[name]) for name in SIZES]
    torch.testing.assert_close(fusion(given)["y"], sum(projected) / 3**0.5)


def test_attention_pooling_begins_as_the_mean_of_real_states() -> None:
    fusion: Any = build_fusion(CONFIGS["attention"], SIZES, ["a"]).eval()
    given = features(fusion)
    tokens, _ = fusion.projected(given, list(SIZES))
    torch.testing.assert_close(fusion(given)["a"], tokens.mean(dim=1), atol=1e-5, rtol=0)
    normed: Any = build_fusion(AttentionFusionConfig(**ATTENTION, output_norm=True), SIZES, ["a"]).eval()
    tokens, _ = normed.projected(given, list(SIZES))
    expected = nn.functional.layer_norm(tokens, [16]).mean(dim=1)
    torch.testing.assert_close(normed(given)["a"], expected, atol=1e-5, rtol=0)


def test_each_output_reads_its_own_input() -> None:
    config = PassThroughFusionConfig(inputs={"a": "keys", "b": "text"})
    fusion = build_fusion(config, SIZES, ["a", "b"])
    given = features(fusion)
    fused = fusion(given)
    assert fused["a"] is given["keys"]
    assert fused["b"] is given["text"]
    assert (fusion.size_of("a"), fusion.size_of("b")) == (3, 6)
    assert build_fusion(PassThroughFusionConfig(), {"keys": 3}, ["a"]).size_of("a") == 3


def test_a_dropout_of_each_place() -> None:
    def fusion(**dropouts: float) -> Any:
        config = MlpResidualFusionConfig.model_validate({"dropout": 0.0, "stochastic_depth": 0.0, **dropouts})
        torch.manual_seed(3)
        return noisy(build_fusion(config, {"text": 6}, ["y"]).train())

    x = {"text": torch.randn(64, 6)}
    plain = fusion()(x)["y"]
    for place in ("dropout", "input_dropout", "hidden_dropout", "branch_dropout", "output_dropout"):
        torch.manual_seed(0)
        assert not torch.equal(fusion(**{place: 0.5})(x)["y"], plain), place
    assert (fusion(output_dropout=0.5)(x)["y"] == 0).float().mean() > 0.3
    torch.testing.assert_close(fusion(dropout=0.5, hidden_dropout=0.0, branch_dropout=0.0)(x)["y"], plain)


def test_gates_differ_between_outputs() -> None:
    fusion = build_fusion(CONFIGS["gated-experts"], SIZES, ["a", "b"]).eval()
    fused = fusion(features(fusion))
    assert not torch.allclose(fused["a"], fused["b"])


def test_layers_of_the_attention_fusion_start_apart() -> None:
    layers: Any = build_fusion(CONFIGS["attention"], SIZES, ["a"])
    first, second = layers.layers.layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_inputs_as_wide_as_the_tokens_are_read_as_they_are() -> None:
    sizes = {"wide": 16, "narrow": 3}
    plain: Any = build_fusion(AttentionFusionConfig(num_heads=4), sizes, ["y"]).eval()
    given = {name: torch.randn(2, size) for name, size in sizes.items()}
    tokens = torch.stack([given["wide"], plain.project["of_narrow"](given["narrow"])], dim=1) + plain.places
    torch.testing.assert_close(plain(given)["y"], tokens.mean(dim=1))
    projected: Any = build_fusion(AttentionFusionConfig(num_heads=4, project_always=True), sizes, ["y"])
    assert isinstance(projected.project["of_wide"], nn.Linear)


def test_heads_must_divide_the_hidden_size() -> None:
    with pytest.raises(UserError, match=r"fusion\.num_heads: 5 heads do not divide fusion\.hidden_size 16"):
        build_fusion(AttentionFusionConfig(hidden_size=16, num_heads=5), SIZES, ["a"])
    assert build_fusion(AttentionFusionConfig(num_heads=5), {"a": 33}, ["y"]).output_size == 30
    assert build_fusion(AttentionFusionConfig(num_heads=8), {"a": 3}, ["y"]).output_size == 8


def test_stored_fusions_of_earlier_versions_compute_as_they_did() -> None:
    """By keys that they have, and the names of weights, which were these."""
    stored = {"type": "attention", "num_layers": 1, "hidden_size": 16, "num_heads": 4, "dropout": 0.1}
    config = AttentionFusionConfig.model_validate(of_earlier_version(stored, list(SIZES)))
    fusion: Any = noisy(build_fusion(config, SIZES, ["a"]).eval())
    assert {name.partition(".")[0] for name in fusion.state_dict()} == {"project", "places", "layers"}
    given = features(fusion)
    tokens = torch.stack([fusion.project[f"of_{name}"](given[name]) for name in SIZES], dim=1)
    states = fusion.layers(torch.cat([torch.zeros(4, 1, 16), tokens], dim=1) + fusion.places)
    assert isinstance(fusion.layers.norm, nn.LayerNorm)
    torch.testing.assert_close(fusion(given)["a"], states[:, 0], atol=1e-6, rtol=0)
    crossed = CrossAttentionFusionConfig.model_validate(of_earlier_version({"type": "cross-attention"}, list(SIZES)))
    assert (crossed.num_layers, crossed.output_norm, crossed.project_always) == (2, True, True)

    stored = {"type": "mlp-residual", "hidden_size": 14}
    normed = MlpResidualFusionConfig.model_validate(of_earlier_version(stored, list(SIZES)))
    blocks: Any = build_fusion(normed, SIZES, ["a"])
    assert {name.partition(".")[0] for name in blocks.state_dict()} == {"project", "blocks", "final_norm"}

    def residual(x: Tensor) -> Tensor:
        x = blocks.project(x)
        for block in blocks.blocks:
            x = x + block.down(nn.functional.gelu(block.up(block.norm(x))))
        found: Tensor = blocks.final_norm(x)
        return found

    noisy(blocks.eval())
    concatenated = torch.cat(list(given.values()), dim=1)
    torch.testing.assert_close(blocks(given)["a"], residual(concatenated), atol=1e-6, rtol=0)


def test_what_auto_stood_for_in_earlier_versions() -> None:
    stored = AutoFusionConfig().model_dump(exclude={"output_norm"})
    for inputs, expected in ((["a"], "concat"), (["a", "b"], "mlp-residual")):
        config = AutoFusionConfig.model_validate(of_earlier_version(stored, inputs)).chosen(inputs)
        assert config.type == expected
        assert getattr(config, "output_norm", None) == (True if len(inputs) > 1 else None)
    assert AutoFusionConfig.model_validate(of_earlier_version({**stored, "num_layers": 1}, ["a"])).output_norm


def test_stochastic_depth_drops_whole_rows_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = StochasticDepth(0.25)
    out = layer(torch.ones(20_000, 3))
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert torch.equal(out[:, 0], out[:, 1])
    assert out.mean().item() == pytest.approx(1, abs=0.02)  # five standard errors of 20,000 draws
    assert torch.equal(layer.eval()(torch.ones(5, 3)), torch.ones(5, 3))


def test_stored_heads_of_earlier_versions_end_in_a_norm(tmp_path: Path) -> None:
    output = {"type": "classification", "column": "label", "head": {"type": "mlp-residual", "num_layers": 1}}
    (tmp_path / "label.json").write_text(json.dumps({"type": "classification", "config": output}))
    _, content = read_state(tmp_path / "label.json", ["classification"])
    assert content["config"]["head"]["output_norm"] is True
    (tmp_path / "config.yaml").write_text(json.dumps({"inputs": {"a": {}}, "outputs": {"label": output}}))
    assert read_config(tmp_path / "config.yaml")["outputs"]["label"]["head"]["output_norm"] is True

    for norm, kind in ((True, nn.LayerNorm), (False, nn.Identity)):
        config = MlpResidualHeadConfig(num_layers=1, output_norm=norm)
        assert isinstance(ResidualTrunk(4, config).norm, kind)
