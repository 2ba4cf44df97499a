"""The network and the head of outputs with `loss: diffusion`: the loss of rows, guidance, learned densities."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.outputs.diffusion.config import DiffusionOptions, UNetOptions
from eir_seq.outputs.diffusion.head import DiffusionHead, row_generators
from eir_seq.outputs.diffusion.unet import UNet

SMALL = UNetOptions(channels=8, multipliers=[1, 2], attention_heads=2)


pytestmark = pytest.mark.usefixtures("one_thread_throughout")


def as_it_is(target: Tensor) -> tuple[Tensor, Tensor]:
    known = ~target.isnan()
    return target.nan_to_num(0.0), known


def head_of(*shape: int, **options: Any) -> DiffusionHead:
    torch.manual_seed(0)
    head = DiffusionHead(shape, 4, DiffusionOptions(unet=SMALL, **options), as_it_is)
    for parameter in head.parameters():  # a new U-Net predicts zeros
        torch.nn.init.normal_(parameter, std=0.1)
    return head


@pytest.mark.parametrize("sides", [(1,), (7,), (2, 9), (8, 8), (3, 1, 5)])
@pytest.mark.parametrize(("channels", "multipliers"), [(34, [1]), (4, [1, 2, 2, 2])])
def test_the_u_net_takes_any_sides(sides: tuple[int, ...], channels: int, multipliers: list[int]) -> None:
    options = UNetOptions(channels=channels, multipliers=multipliers, blocks=2, attention_heads=2)
    network = UNet((3, *sides), 4, options)
    x, times = torch.randn(2, 3, *sides, requires_grad=True), torch.tensor([0, 10])
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    found = network(x, times, torch.randn(2, 4))
    assert found.shape == x.shape
    found.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_a_large_target_gets_a_coarser_map_of_the_condition() -> None:
    options = UNetOptions(channels=4, multipliers=[1], attention_heads=0)
    for side, rows in ((1000, 4 * 1000), (6000, 2 * 6000), (100_000, 12_500)):
        network = UNet((1, side), 256, options)
        assert network.spread is not None
        assert network.spread.weight.shape == (rows, 256)
    assert network(torch.zeros(1, 1, 100_000), torch.zeros(1), torch.zeros(1, 256)).shape == (1, 1, 100_000)


def test_losses_of_an_evaluation_depend_on_the_row_alone() -> None:
    head = head_of(1, 1, 12).eval()
    condition, target, rows = torch.randn(6, 4), torch.randn(6, 1, 1, 12), torch.arange(10, 16)
    with torch.no_grad():
        losses = head(condition, target, rows)
        some = [4, 1]
        torch.testing.assert_close(head(condition[some], target[some], rows[some]), losses[some])
        assert (head(condition, target, rows + 1) != losses).all()
        assert not head(condition, None, rows).any()


def test_missing_values_have_no_part_in_the_loss() -> None:
    head = head_of(1, 2, 6).eval()
    target = torch.randn(3, 1, 2, 6)
    with torch.no_grad():
        whole = head(torch.zeros(3, 4), target)
        target[1, 0, 0, 2:4] = float("nan")
        target[2] = float("nan")
        found = head(torch.zeros(3, 4), target)
    assert found.isfinite().all()
    assert found[0] == whole[0]
    assert found[1] != whole[1]
    assert found[2] == 0


def test_a_share_of_training_rows_loses_its_condition() -> None:
    head = head_of(1, 1, 4, condition_dropout=0.25)
    torch.manual_seed(0)
    assert head.no_condition is not None
    condition, beside = head._dropped(torch.ones(2000, 4), torch.ones(2000, 2, 1, 4))
    dropped = condition.eq(head.no_condition).all(dim=1)
    assert beside.flatten(1).any(dim=1).equal(~dropped)
    assert 0.22 < dropped.float().mean() < 0.28
    assert head_of(1, 1, 4, condition_dropout=0.0).no_condition is None


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver"])
def test_a_sample_depends_on_seed_and_row_not_on_its_batch(sampler: Any) -> None:
    head = head_of(2, 3, 5, sampler=sampler, inference_steps=5, guidance=2.0).eval()
    condition, names = torch.randn(3, 4), ["a", "b", "c"]
    with torch.inference_mode():
        samples = head.sample(condition, row_generators(1, "samples", names))
        again = head.sample(condition[[2, 0]], row_generators(1, "samples", ["c", "a"]))
        other = head.sample(condition, row_generators(2, "samples", names))
    assert samples.shape == (3, 2, 3, 5)
    torch.testing.assert_close(again, samples[[2, 0]])
    assert (other != samples).flatten(1).any(dim=1).all()


def test_guidance_weighs_prediction_with_and_without_condition() -> None:
    condition = torch.randn(2, 4)

    def sample(guidance: float, condition: Tensor = condition) -> Tensor:
        head = head_of(1, 1, 6, guidance=guidance, sampler="ddim", inference_steps=1, clip=False).eval()
        with torch.inference_mode():
            return head.sample(condition, row_generators(0, "samples", [0, 1]))

    none = head_of(1, 1, 6).no_condition
    assert none is not None
    without, given = sample(0.0), sample(1.0)
    torch.testing.assert_close(without, sample(1.0, none.detach().expand(2, 4)))
    torch.testing.assert_close(sample(3.0), without + 3 * (given - without))


def values_head(**options: Any) -> DiffusionHead:
    torch.manual_seed(0)
    grids = {"photo": (2, 3, 4), "scan": (1, 6, 8)}
    head = DiffusionHead((3, 6, 8), 4, DiffusionOptions(unet=SMALL, **options), as_it_is, grids=grids)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return head.eval()


def test_values_of_inputs_are_channels_beside_the_sample() -> None:
    head = values_head()
    values = {"photo": torch.randn(2, 2, 3, 4), "scan": torch.randn(2, 1, 6, 8)}
    beside = head._beside(values, torch.zeros(2, 3, 6, 8))
    assert beside.shape == (2, 3, 6, 8)
    resized = torch.nn.functional.interpolate(values["photo"], (6, 8), mode="bilinear")  # enlarged: no antialiasing
    torch.testing.assert_close(beside, torch.cat([resized, values["scan"]], dim=1))
    without = head._beside({"scan": values["scan"]}, torch.zeros(2, 3, 6, 8))
    assert not without[:, :2].any()
    target = torch.randn(2, 3, 6, 8)
    with torch.no_grad():
        losses = [head(torch.zeros(2, 4), target, values=found) for found in (values, {"scan": values["scan"]}, {})]
        swapped = {"photo": values["photo"], "scan": values["scan"].flip(0)}
        changed = head.unet(
            torch.cat([target, head._beside(swapped, target)], dim=1), torch.zeros(2), torch.zeros(2, 4)
        )
        before = head.unet(torch.cat([target, beside], dim=1), torch.zeros(2), torch.zeros(2, 4))
    assert len({float(loss.sum()) for loss in losses}) == 3
    assert changed.shape == (2, 3, 6, 8)
    assert (changed != before).all()  # at every position


def test_guidance_drops_values_with_the_condition() -> None:
    condition, values = torch.randn(2, 4), {"scan": torch.randn(2, 1, 6, 8), "photo": torch.randn(2, 2, 3, 4)}

    def sample(guidance: float, condition: Tensor = condition, values: dict[str, Tensor] = values) -> Tensor:
        head = values_head(guidance=guidance, inference_steps=1, clip=False)
        with torch.inference_mode():
            return head.sample(condition, row_generators(0, "samples", range(len(condition))), values=values)

    none = values_head().no_condition
    assert none is not None
    without, given = sample(0.0), sample(1.0)
    torch.testing.assert_close(without, sample(1.0, none.detach().expand(2, 4), {}))
    torch.testing.assert_close(sample(3.0), without + 3 * (given - without))
    alone = sample(3.0, condition[:1], {name: x[:1] for name, x in values.items()})
    torch.testing.assert_close(alone, sample(3.0)[:1])


@pytest.mark.slow
def test_a_density_in_the_plane_is_learned_by_class() -> None:
    """Two rings of points; a guided sample is on the ring of its class."""
    torch.manual_seed(0)
    options = DiffusionOptions(
        steps=100, inference_steps=10, sampler="dpm-solver", unet=UNetOptions(channels=24, multipliers=[1], blocks=2)
    )
    head = DiffusionHead((2, 1, 1), 2, options, as_it_is)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)

    def points(kind: Tensor) -> Tensor:
        angle = 2 * torch.pi * torch.rand(len(kind))
        return ((0.5 + kind) * torch.stack([angle.cos(), angle.sin()]))[..., None, None].transpose(0, 1)

    for _ in range(250):
        kind = torch.randint(2, (256,))
        head(torch.eye(2)[kind], points(kind)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    kind = torch.arange(400) % 2
    with torch.inference_mode():
        found = head.eval().sample(torch.eye(2)[kind], row_generators(0, "points", range(400)))[:, :, 0, 0]
    radius = found.norm(dim=1)
    assert ((radius > 1) == (kind == 1)).float().mean() > 0.95
    assert abs(radius[kind == 0].mean() - 0.5) < 0.1
    assert abs(radius[kind == 1].mean() - 1.5) < 0.1
    assert found.mean(dim=0).abs().max() < 0.15  # all around the rings
    assert len({tuple(signs) for signs in found.sign().tolist()}) == 4


@pytest.mark.slow
def test_details_of_an_input_are_kept() -> None:
    """Fields of independent values are enlarged, with an error of less than 2 % of their variance."""
    torch.manual_seed(0)
    unet = UNetOptions(channels=16, multipliers=[1, 2], attention_heads=0)
    options = DiffusionOptions(steps=100, inference_steps=10, sampler="dpm-solver", unet=unet)
    head = DiffusionHead((1, 12, 12), 36, options, as_it_is, grids={"field": (1, 6, 6)})
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)

    def pairs(count: int) -> tuple[Tensor, Tensor]:
        coarse = torch.randn(count, 1, 6, 6)
        return coarse, torch.nn.functional.interpolate(coarse, (12, 12), mode="nearest")

    for _ in range(150):
        coarse, fine = pairs(32)
        head(coarse.flatten(1), fine, values={"field": coarse}).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    coarse, fine = pairs(64)
    generators = row_generators(0, "fields", range(64))
    with torch.inference_mode():
        drawn = head.eval().sample(coarse.flatten(1), generators, values={"field": coarse})
    assert (drawn - fine).square().mean() < 0.02 * fine.var()  # 4 % by the vector alone
