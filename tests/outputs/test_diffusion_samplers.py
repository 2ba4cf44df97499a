"""Schedules, noise and samplers, against the `diffusers` package and against exact densities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.outputs.diffusion.config import BetaSchedule, DiffusionOptions
from eir_seq.outputs.diffusion.noise import Noise, betas
from eir_seq.outputs.diffusion.samplers import draw_samples, inference_times

SCHEDULES: dict[BetaSchedule, str] = {
    "linear": "linear",
    "scaled-linear": "scaled_linear",
    "cosine": "squaredcos_cap_v2",
    "sigmoid": "sigmoid",
}


@pytest.fixture(scope="module")
def reference() -> Any:
    return pytest.importorskip("diffusers")


@pytest.mark.parametrize(("ours", "theirs"), SCHEDULES.items())
def test_betas_are_those_of_the_reference(reference: Any, ours: BetaSchedule, theirs: str) -> None:
    expected = reference.DDPMScheduler(1000, beta_schedule=theirs).betas
    torch.testing.assert_close(betas(ours, 1000).float(), expected, rtol=1e-4, atol=1e-7)  # theirs are in float32


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [2, 10, 50, 1000, 4000])
def test_little_signal_is_left_after_any_number_of_steps(schedule: BetaSchedule, steps: int) -> None:
    noise = Noise(schedule, steps, "v")
    assert noise.signal[-1] < 0.11
    assert noise.signal.diff().lt(0).all()
    torch.testing.assert_close(noise.signal**2 + noise.noise**2, torch.ones(steps))


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_noise_and_velocity_are_those_of_the_reference(reference: Any, prediction: Any) -> None:
    noise = Noise("scaled-linear", 1000, prediction)
    scheduler = reference.DDPMScheduler(1000, beta_schedule="scaled_linear")
    x, e, times = torch.randn(3, 2, 4), torch.randn(3, 2, 4), torch.tensor([0, 400, 999])
    mixed = noise.add(x, e, times)
    torch.testing.assert_close(mixed, scheduler.add_noise(x, e, times), rtol=1e-4, atol=1e-5)
    target = noise.target(x, e, times)
    expected = e if prediction == "epsilon" else scheduler.get_velocity(x, e, times)
    torch.testing.assert_close(target, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(noise.clean(mixed, target, times), x, rtol=1e-3, atol=1e-3)


def _stepped(scheduler: Any, model: Callable[[Tensor, int], Tensor], noise: Callable[[], Tensor], **how: Any) -> Tensor:
    """A sample by a scheduler of the reference, whose noise is replaced by `noise`."""
    x = noise()
    for time in scheduler.timesteps.tolist():
        x = scheduler.step(model(x, time), time, x, **how(time) if callable(how) else how).prev_sample
    return x


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("sampler", "eta"), [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 0.7), ("dpm-solver", 0.0)])
def test_samples_are_those_of_the_reference(
    reference: Any, monkeypatch: pytest.MonkeyPatch, schedule: BetaSchedule, prediction: Any, sampler: Any, eta: float
) -> None:
    options = DiffusionOptions(
        steps=200, beta_schedule=schedule, prediction=prediction, sampler=sampler, inference_steps=20, eta=eta
    )
    level = Noise(schedule, 200, prediction)

    def model(x: Tensor, time: int) -> Tensor:
        return 0.3 * x.sin() + 0.001 * time * x.flip(1)

    generator = torch.Generator().manual_seed(1)

    def noise(*_: Any, **__: Any) -> Tensor:
        return torch.randn(3, 5, generator=generator)

    def clean(x: Tensor, time: int) -> Tensor:
        return level.clean(x, model(x, time), torch.full((3,), time)).clamp(-1, 1)

    found = draw_samples(options, level.kept, clean, noise)
    shared: dict[str, Any] = {
        "num_train_timesteps": 200,
        "trained_betas": betas(schedule, 200).tolist(),
        "timestep_spacing": "trailing",
        "prediction_type": "epsilon" if prediction == "epsilon" else "v_prediction",
    }
    generator.manual_seed(1)
    if sampler == "dpm-solver":
        # It has no clipping of its own: the model is the one whose estimates are clipped.
        def clipped(x: Tensor, time: int) -> Tensor:
            estimate, t = clean(x, time), torch.full((3,), time)
            e = (x - level.signal[time] * estimate) / level.noise[time]
            return level.target(estimate, e, t)

        scheduler = reference.DPMSolverMultistepScheduler(**shared)
        scheduler.set_timesteps(20)
        expected = _stepped(scheduler, clipped, noise)
    elif sampler == "ddim":
        scheduler = reference.DDIMScheduler(**shared, clip_sample=True)
        scheduler.set_timesteps(20)
        module = "diffusers.schedulers.scheduling_ddim.randn_tensor"
        monkeypatch.setattr(module, noise)
        expected = _stepped(scheduler, model, noise, eta=eta, use_clipped_model_output=True)
    else:
        scheduler = reference.DDPMScheduler(**shared, clip_sample=True)
        scheduler.set_timesteps(20)
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", noise)
        expected = _stepped(scheduler, model, noise)
    assert scheduler.timesteps.tolist() == inference_times(200, 20)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_as_many_steps_as_in_training_visit_every_level() -> None:
    assert inference_times(7, 7) == [6, 5, 4, 3, 2, 1, 0]
    assert inference_times(1000, 1) == [999]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    ("sampler", "steps", "eta"), [("ddpm", 200, 0.0), ("ddim", 100, 0.0), ("ddim", 200, 0.5), ("dpm-solver", 100, 0.0)]
)
def test_samples_have_the_density_that_the_denoiser_knows(
    schedule: BetaSchedule, sampler: Any, steps: int, eta: float
) -> None:
    """Two normal densities in the plane, whose exact denoiser is known, and moments of the samples."""
    options = DiffusionOptions(steps=1000, beta_schedule=schedule, sampler=sampler, inference_steps=steps, eta=eta)
    level = Noise(schedule, 1000, "v")
    centres, deviation, shares = torch.tensor([[-1.0, 0.5], [1.0, 0.0]]), 0.2, torch.tensor([0.25, 0.75])
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(4000, 2, generator=generator)

    def clean(x: Tensor, time: int) -> Tensor:
        """The mean of the clean points given noisy ones."""
        a, s = level.signal[time], level.noise[time]
        variance = (a * deviation) ** 2 + s**2
        distance = x[:, None] - a * centres
        weights = (shares.log() - distance.square().sum(dim=2) / (2 * variance)).softmax(dim=1)
        means = centres + a * deviation**2 / variance * distance
        return (weights[..., None] * means).sum(dim=1)

    points = draw_samples(options, level.kept, clean, noise)
    left = points[:, 0] < 0
    assert math.isclose(left.float().mean(), 0.25, abs_tol=0.03)  # four standard errors of 4,000 points
    for side, centre in ((left, centres[0]), (~left, centres[1])):
        torch.testing.assert_close(points[side].mean(dim=0), centre, rtol=0, atol=0.03)
        torch.testing.assert_close(points[side].std(dim=0), torch.full((2,), deviation), rtol=0, atol=0.02)
