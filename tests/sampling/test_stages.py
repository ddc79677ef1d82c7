from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sampling.helpers import backbone, picture, prompts, square_mask

from intarsia.conditioning import ScheduledConditioning
from intarsia.sampling import (
    Guidance,
    KnownRegion,
    SamplingError,
    Stage,
    StageInput,
    StagesResult,
    denoise,
    draw_noise,
    late_start,
    latent_mask,
    make_generators,
    make_scheduler,
    masked_image,
    plan_stages,
    run_stages,
    set_steps,
    start_latents,
)

SCENE, MASK = picture(96, 128), square_mask(96, 128, 40, 48, 20)
TOP, LEFT, SIDE = 32, 32, 48  # the local window, painted at 64 px; the global one is 96 x 128


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 200), st.floats(0, 1))
def test_plans_cover_every_step_once(steps: int, lam: float) -> None:
    plan = plan_stages(steps, lam)
    covered = [step for stage in plan for step in range(stage.start, stage.end)]
    assert covered == list(range(steps))
    local = sum(stage.end - stage.start for stage in plan if stage.name == "local")
    assert [stage.name for stage in plan] == sorted({stage.name for stage in plan}, reverse=True)
    if lam in (0.0, 1.0):
        assert local == lam * steps
    elif steps >= 2:
        assert 1 <= local <= steps - 1 and abs(local - lam * steps) <= max(
            0.5 + 1e-6, 1.0 if local in (1, steps - 1) else 0
        )


@pytest.mark.parametrize(
    "steps, lam, local",
    [
        (30, 0.7, 21),
        (10, 0.35, 4),
        (10, 0.25, 3),
        (1, 0.5, 1),
        (1, 0.49, 0),
        (2, 0.01, 1),
        (2, 0.99, 1),
        (50, 0.7, 35),
    ],
)
def test_rounding(steps: int, lam: float, local: int) -> None:
    assert sum(stage.end - stage.start for stage in plan_stages(steps, lam) if stage.name == "local") == local


def test_plans_carry_window_sizes_and_refuse_nonsense() -> None:
    assert [stage.size for stage in plan_stages(4, 0.5, local_size=(8, 8), global_size=(12, 16))] == [
        (8, 8),
        (12, 16),
    ]
    for steps, lam in ((0, 0.7), (4, -0.1), (4, 1.1), (4, float("nan"))):
        with pytest.raises(SamplingError):
            plan_stages(steps, lam)
    with pytest.raises(SamplingError):
        Stage("middle", 0, 1)  # type: ignore[arg-type]
    with pytest.raises(SamplingError):
        Stage("local", 2, 2)


def resize(images: torch.Tensor, height: int, width: int, mode: str = "bilinear") -> torch.Tensor:
    return torch.nn.functional.interpolate(images, size=(height, width), mode=mode)


def crop(stage: Stage, scene: torch.Tensor) -> StageInput:
    if stage.name == "global":
        return StageInput(scene, MASK, scene * 0.5)
    window = (..., slice(TOP, TOP + SIDE), slice(LEFT, LEFT + SIDE))
    image = resize(scene[window], 64, 64)
    return StageInput(image, resize(MASK[window], 64, 64, "nearest"), image * 0.5)


def paste(stage: Stage, scene: torch.Tensor, painted: torch.Tensor) -> torch.Tensor:
    if stage.name == "global":
        return torch.where(MASK > 0, painted, scene)
    full = scene.repeat(len(painted) // len(scene), 1, 1, 1)
    full[..., TOP : TOP + SIDE, LEFT : LEFT + SIDE] = resize(painted, SIDE, SIDE)
    return torch.where(MASK > 0, full, scene)


def run(
    name: str = "ddim", lam: float = 0.5, steps: int = 4, seeds: tuple[int, ...] = (7,), **options: Any
) -> StagesResult[torch.Tensor]:
    positive, negative = prompts()
    arguments: dict[str, Any] = {
        "positive": positive,
        "negative": negative,
        "generators": make_generators(seeds),
    }
    return run_stages(
        backbone(),
        make_scheduler(backbone(), name),
        plan_stages(steps, lam),
        SCENE,
        crop,
        paste,
        steps=steps,
        **(arguments | options),
    )


@pytest.mark.parametrize("name", ["ddim", "euler_a", "dpmpp_2m_sde_karras"])
@pytest.mark.parametrize("known_source", ["pasted", "original"])
@pytest.mark.parametrize("start", ["noise", "fill"])
def test_two_stages_by_hand(name: str, known_source: str, start: str) -> None:
    """The same computation spelled out: local window, decode x0, paste, encode, add noise, global window."""
    steps, switch = 5, 3
    model, (positive, negative) = backbone(), prompts()
    generators = make_generators([7, 8])
    scene = SCENE
    with torch.no_grad():
        for stage in (Stage("local", 0, switch), Stage("global", switch, steps)):
            scheduler = make_scheduler(model, name)
            source, current = crop(stage, SCENE), crop(stage, scene)
            first = stage.name == "local"
            assert source.fill is not None
            masked = model.encode(masked_image(source.image, source.mask))
            z_original, z_current = (
                model.encode(source.fill),
                model.encode(source.fill if first else current.image),
            )
            noise = draw_noise(generators, masked.shape[1:])
            clean = None if first and start == "noise" else z_current
            x = start_latents(
                set_steps(make_scheduler(model, name), steps, stage.start), noise, clean, step=stage.start
            )
            result = denoise(
                model,
                scheduler,
                x,
                mask=latent_mask(source.mask, 8),
                masked_image_latents=masked,
                positive=positive,
                negative=negative,
                generators=generators,
                steps=steps,
                start=stage.start,
                end=stage.end,
                guidance=Guidance(3.0),
                known=KnownRegion(z_original if known_source == "original" else z_current),
            )
            painted = model.decode(result.denoised if first else result.latents)
            scene = paste(stage, scene, painted)
    ours = run(name, 0.6, steps, (7, 8), guidance=Guidance(3.0), known_source=known_source, start=start)
    assert [output.stage.end for output in ours.stages] == [switch, steps]
    assert torch.equal(ours.stages[-1].picture, painted) and torch.equal(ours.scene, scene)


def test_only_the_mask_changes_and_only_by_the_painting() -> None:
    scene = run(seeds=(1, 2)).scene
    outside = (MASK == 0).expand_as(scene)
    assert torch.equal(scene[outside], SCENE.expand_as(scene)[outside])
    assert not torch.allclose(scene, SCENE.expand_as(scene))


@pytest.mark.parametrize("lam, names", [(0.0, ["global"]), (1.0, ["local"]), (0.5, ["local", "global"])])
def test_lambda_decides_the_stages(lam: float, names: list[str]) -> None:
    result = run(lam=lam, steps=3)
    assert [output.stage.name for output in result.stages] == names
    sizes = {"local": (64, 64), "global": (96, 128)}
    assert all(tuple(output.picture.shape[-2:]) == sizes[output.stage.name] for output in result.stages)


@pytest.mark.parametrize("lam", [0.2, 0.7])
def test_one_step_is_enough(lam: float) -> None:
    assert len(run(lam=lam, steps=1).stages) == 1


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m_sde"])
def test_same_seed_same_bytes_and_batches_do_not_matter(name: str) -> None:
    batch = run(name, seeds=(1, 2, 3)).scene
    assert torch.equal(batch, run(name, seeds=(1, 2, 3)).scene)
    torch.testing.assert_close(run(name, seeds=(3,)).scene[0], batch[2], atol=1e-3, rtol=0)
    assert not torch.allclose(batch[0], batch[1], atol=1e-2)


def test_the_hole_of_the_original_is_never_seen() -> None:
    """With a fill given, other content under the mask changes nothing."""

    def other(stage: Stage, scene: torch.Tensor) -> StageInput:
        cut = crop(stage, scene)
        if scene is not SCENE:
            return cut
        return StageInput(torch.where(cut.mask > 0, -cut.image, cut.image), cut.mask, cut.fill)

    plain = run()
    changed = run_stages(
        backbone(),
        make_scheduler(backbone(), "ddim"),
        plan_stages(4, 0.5),
        SCENE,
        other,
        paste,
        positive=prompts()[0],
        negative=prompts()[1],
        generators=make_generators([7]),
        steps=4,
    )
    assert torch.equal(plain.scene, changed.scene)


def test_each_stage_gets_its_own_conditioning_and_is_reported() -> None:
    positive, _ = prompts()
    other = type(positive)(positive.tokens * 2, positive.pooled)
    seen: list[tuple[str, int]] = []
    scheduled = ScheduledConditioning(positive, other, "local")
    local_only = run(positive=scheduled, callback=lambda stage, step: seen.append((stage.name, step["step"])))
    assert seen == [("local", 0), ("local", 1), ("global", 2), ("global", 3)]
    plain, both = run(), run(positive=other)
    assert torch.equal(local_only.stages[0].picture, both.stages[0].picture)
    assert not torch.equal(local_only.stages[0].picture, plain.stages[0].picture)
    assert not torch.equal(local_only.stages[1].picture, both.stages[1].picture)


def test_bad_plans_and_inputs_are_refused() -> None:
    positive, negative = prompts()

    def go(stages: list[Stage], cut: Any = crop, **options: Any) -> None:
        arguments: dict[str, Any] = {"generators": make_generators([1]), "steps": 4}
        run_stages(
            backbone(),
            make_scheduler(backbone(), "ddim"),
            stages,
            SCENE,
            cut,
            paste,
            positive=positive,
            negative=negative,
            **(arguments | options),
        )

    plan = plan_stages(4, 0.5)
    cases: list[tuple[list[Stage], dict[str, Any], str]] = [
        ([], {}, "no stages"),
        ([Stage("local", 0, 1), Stage("global", 2, 4)], {}, "gaps"),
        (plan, {"steps": 3}, "step 4 of 3"),
        (plan, {"start": "middle"}, "middle"),
        (plan, {"known_source": "nowhere"}, "nowhere"),
        ([Stage("local", 0, 4, (9, 9))], {}, r"planned for \(9, 9\)"),
        (
            plan,
            {"cut": lambda *_: StageInput(torch.zeros(1, 3, 40, 64), torch.ones(1, 1, 40, 64))},
            "multiples of 16",
        ),
        (
            plan,
            {"cut": lambda *_: StageInput(torch.zeros(3, 64, 64), torch.ones(1, 1, 64, 64))},
            "stage image",
        ),
        (
            plan,
            {"cut": lambda *_: StageInput(torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 32, 32))},
            "stage mask",
        ),
        (
            plan,
            {"cut": lambda *_: StageInput(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64))},
            "no pixel",
        ),
    ]
    for stages, options, words in cases:
        with pytest.raises(SamplingError, match=words):
            go(stages, **options)


def test_a_late_start_leaves_the_last_steps() -> None:
    plan = plan_stages(10, 0.7)
    assert late_start(plan, 1.0) == plan
    assert late_start(plan, 0.5) == [Stage("local", 5, 7), Stage("global", 7, 10)]
    assert late_start(plan, 0.2) == [Stage("global", 8, 10)]
    assert late_start(plan, 0.001) == [Stage("global", 9, 10)]
    for strength in (0.0, 1.1):
        with pytest.raises(SamplingError, match="strength"):
            late_start(plan, strength)
