from __future__ import annotations

import pytest
import torch
from tests.sampling.helpers import backbone, sample

from intarsia.sampling import (
    SCHEDULERS,
    SchedulerError,
    denoised_from,
    draw_noise,
    make_generators,
    make_scheduler,
    noise_level,
    prediction_from,
    set_steps,
    start_latents,
)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", sorted(SCHEDULERS))
@pytest.mark.parametrize("start", [0, 3])
def test_a_model_that_always_predicts_the_same_picture_ends_there(
    name: str, prediction_type: str, start: int
) -> None:
    """Proves the conversions against every scheduler's own step, history and last step included."""
    steps = 7
    scheduler = set_steps(make_scheduler(backbone(prediction_type), name), steps, start)
    generators = make_generators([1, 2])
    target = draw_noise(generators, (4, 4, 4))
    clean = None if start == 0 else torch.zeros(1, 4, 4, 4)
    x = start_latents(scheduler, draw_noise(generators, (4, 4, 4)), clean, step=start)
    accepts = "generator" in scheduler.step.__code__.co_varnames
    for timestep in scheduler.timesteps[start:]:
        level = noise_level(scheduler, timestep)
        scaled = scheduler.scale_model_input(x, timestep)
        torch.testing.assert_close(scaled, x / level.norm, atol=1e-4, rtol=1e-4)
        prediction = prediction_from(target, x, level, prediction_type)
        back = denoised_from(prediction, x, level, prediction_type)
        torch.testing.assert_close(back, target, atol=2e-3, rtol=1e-3)
        extra = {"generator": generators} if accepts else {}
        x = scheduler.step(prediction, timestep, x, **extra, return_dict=False)[0]
    # Some schedulers stop at the lowest noise of the training schedule instead of none at all.
    torch.testing.assert_close(x, target, atol=0.2, rtol=0)
    correlation = torch.corrcoef(torch.stack([x.flatten(), target.flatten()]))[0, 1]
    assert correlation > 0.995


def test_starting_level_is_the_schedulers_own() -> None:
    noise, clean = torch.randn(2, 4, 4, 4), torch.randn(1, 4, 4, 4)
    for name in SCHEDULERS:
        scheduler = set_steps(make_scheduler(backbone(), name), 6, 2)
        level = noise_level(scheduler, scheduler.timesteps[2])
        x = start_latents(scheduler, noise, clean, step=2)
        torch.testing.assert_close(x, level.alpha * clean + level.sigma * noise, atol=1e-5, rtol=1e-5)
        assert level.sigma > noise_level(set_steps(scheduler, 6, 5), scheduler.timesteps[5]).sigma


def test_pure_noise_is_refused_in_the_middle() -> None:
    scheduler = set_steps(make_scheduler(backbone(), "ddim"), 6, 2)
    with pytest.raises(ValueError, match="step 2"):
        start_latents(scheduler, torch.zeros(1, 4, 4, 4), step=2)


@pytest.mark.parametrize(
    "name", ["heun", "lcm", "PNDMScheduler", "DPMSolverSDEScheduler", "KDPM2DiscreteScheduler"]
)
def test_refused_schedulers_say_why_and_list_others(name: str) -> None:
    with pytest.raises(SchedulerError, match=rf"{name}.*\(.*\).*ddim.*euler"):
        make_scheduler(backbone(), name)


@pytest.mark.parametrize(
    "name",
    ["eular", "FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler", "UNet2DModel", "ScoreSdeVeScheduler"],
)
def test_unknown_and_foreign_schedulers(name: str) -> None:
    with pytest.raises(SchedulerError, match=rf"{name}.*ddim"):
        make_scheduler(backbone(), name)


@pytest.mark.parametrize(
    "name", ["LMSDiscreteScheduler", "DPMSolverSinglestepScheduler", "EulerDiscreteScheduler"]
)
def test_class_names_work(name: str) -> None:
    if name == "LMSDiscreteScheduler":
        pytest.importorskip("scipy", reason="this scheduler of diffusers integrates with scipy")
    assert type(make_scheduler(backbone(), name)).__name__ == name
    assert bool(sample(name, steps=5).latents.isfinite().all())


def test_model_settings_reach_the_scheduler_and_latents_are_not_clipped() -> None:
    scheduler = make_scheduler(backbone("v_prediction"), "ddim")
    assert scheduler.config.prediction_type == "v_prediction" and scheduler.config.steps_offset == 1
    assert scheduler.config.clip_sample is False
    assert (
        make_scheduler({"beta_start": 0.001}, "euler", timestep_spacing="trailing").config.beta_start == 0.001
    )
    with pytest.raises(SchedulerError, match="'sample'"):
        make_scheduler({"prediction_type": "sample"}, "ddim")
    with pytest.raises(SchedulerError, match="eta"):
        make_scheduler(backbone(), "ddim", eta=1)


@pytest.mark.parametrize("steps, start", [(0, 0), (1001, 0), (4, 4), (4, -1)])
def test_steps_out_of_range(steps: int, start: int) -> None:
    with pytest.raises(SchedulerError):
        set_steps(make_scheduler(backbone(), "ddim"), steps, start)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_work(name: str, steps: int) -> None:
    assert bool(sample(name, steps=steps).latents.isfinite().all())
