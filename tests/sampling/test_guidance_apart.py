from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.sampling.helpers import backbone, picture, prompts, sample, square_mask

from intarsia.sampling import (
    Guidance,
    KnownRegion,
    NonFinitePredictionError,
    SamplingError,
    StageInput,
    draw_noise,
    guide_apart,
    make_generators,
    make_scheduler,
    plan_stages,
    run_stages,
    set_steps,
    start_latents,
)

REFERENCE_EFFECT = 0.3


class Recorded:
    """A reference branch that shows nothing, but keeps what it is told and uses the scheduler it is lent."""

    def __init__(self) -> None:
        self.seeds: list[list[int]] = []
        self.calls: list[dict[str, Any]] = []
        self.ends = 0

    def begin(self, generators: Sequence[torch.Generator], samples: int) -> None:
        assert len(generators) == samples
        self.seeds.append([generator.initial_seed() for generator in generators])

    def prepare(self, *, timestep: torch.Tensor, scheduler: Any, **told: Any) -> None:
        ones = torch.ones(1, 4, 2, 2)
        scheduler.scale_model_input(scheduler.add_noise(ones, ones, timestep.reshape(1)), timestep)
        self.calls.append(told | {"timestep": timestep})

    def end(self) -> None:
        self.ends += 1


def believed(latents: torch.Tensor, tokens: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """What the fake model predicts: words and reference each count, and not independently."""
    words = tokens.mean(dim=(1, 2)).view(-1, 1, 1, 1)
    seen = seen.view(-1, 1, 1, 1)
    return 0.1 * latents + 10 * words + seen * (REFERENCE_EFFECT + words * latents)


@pytest.fixture()
def fake(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The U-Net of `sample` predicts `believed`; the branch says which rows see the reference."""
    branch = Recorded()

    def forward(_: Any, value: torch.Tensor, *__: Any, **given: Any) -> tuple[torch.Tensor]:
        told = branch.calls[-1]["present"] if branch.calls else [False]
        seen = torch.tensor(told, dtype=torch.float32).repeat_interleave(len(value) // len(told))
        return (believed(value[:, :4], given["encoder_hidden_states"], seen),)

    monkeypatch.setattr(type(backbone().unet), "forward", forward)
    return branch


@pytest.mark.parametrize("rescale", [0.0, 0.7])
@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_equals_the_formula_by_hand(fake: Recorded, name: str, rescale: float) -> None:
    steps, scale, reference_scale = 4, 5.0, 2.5
    guidance = Guidance(scale, rescale, (0.25, 0.75), reference_scale)
    result = sample(name, (1, 2), steps, reference=fake, guidance=guidance).latents

    scheduler = set_steps(make_scheduler(backbone(), name), steps)
    x = start_latents(scheduler, draw_noise(make_generators((1, 2)), (4, 8, 8)))
    prompt, negative = (given.tokens.expand(2, -1, -1) for given in prompts())
    yes, no = torch.ones(2), torch.zeros(2)
    for step, timestep in enumerate(scheduler.timesteps):
        seen = scheduler.scale_model_input(x, timestep)
        full = guided = believed(seen, prompt, yes)
        if step in (1, 2):
            neither, only = believed(seen, negative, no), believed(seen, negative, yes)
            guided = neither + reference_scale * (only - neither) + scale * (full - only)
            spread = full.flatten(1).std(dim=1) / guided.flatten(1).std(dim=1)
            guided = rescale * guided * spread.view(-1, 1, 1, 1) + (1 - rescale) * guided
        x = scheduler.step(guided, timestep, x, return_dict=False)[0]
    torch.testing.assert_close(result, x, atol=1e-4, rtol=1e-4)
    three = [False, True, True]
    assert [call["present"] for call in fake.calls] == [[True], three, three, [True]]
    assert [(call["step"], call["steps"], call["size"]) for call in fake.calls] == [(k, 4, (8, 8)) for k in range(4)]
    assert fake.seeds == [[1, 2]] and fake.ends == 1


@pytest.mark.parametrize(
    ("scale", "reference_scale", "present"),
    [
        (5.0, None, [False, True]),
        (5.0, 5.0, [False, True]),
        (5.0, 1.0, [True, True]),
        (1.0, 1.0, [True]),
        (1.0, None, [True]),
        (1.0, 4.0, [False, True, True]),
        (0.0, 4.0, [False, True, True]),
    ],
)
def test_nothing_is_predicted_that_would_not_count(
    fake: Recorded, scale: float, reference_scale: float | None, present: list[bool]
) -> None:
    guidance = Guidance(scale, reference_scale=reference_scale)
    result = sample("ddim", steps=1, reference=fake, guidance=guidance).latents
    assert fake.calls[0]["present"] == present
    scheduler = set_steps(make_scheduler(backbone(), "ddim"), 1)
    x = draw_noise(make_generators((5,)), (4, 8, 8))
    prompt, negative = (given.tokens for given in prompts())
    yes, no = torch.ones(1), torch.zeros(1)
    full, only, neither = believed(x, prompt, yes), believed(x, negative, yes), believed(x, negative, no)
    apart = scale if reference_scale is None else reference_scale
    guided = neither + apart * (only - neither) + scale * (full - only)
    expected = scheduler.step(guided, scheduler.timesteps[0], x, return_dict=False)[0]
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


def test_both_scales_at_one_are_the_conditional_prediction_bit_by_bit() -> None:
    full, only, neither = torch.randn(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 7
    assert torch.equal(guide_apart(full, only, neither, Guidance(1.0, reference_scale=1.0)), full)


def test_apart_with_equal_scales_is_joint_guidance_byte_by_byte(fake: Recorded) -> None:
    joint, apart = (
        sample("ddim", reference=fake, guidance=Guidance(5.0, 0.5, reference_scale=value)).latents
        for value in (None, 5.0)
    )
    assert torch.equal(joint, apart)


@pytest.mark.parametrize("name", ["ddim", "euler", "euler_a", "dpmpp_2m_sde"])
def test_a_reference_never_shifts_the_picture_s_own_noise(name: str) -> None:
    known = KnownRegion(torch.zeros(1, 4, 8, 8))
    branch = Recorded()
    with_it = sample(name, (3, 4), known=known, reference=branch)
    without = sample(name, (3, 4), known=known)
    assert torch.equal(with_it.latents, without.latents) and len(branch.calls) == 4


def test_without_a_reference_its_scale_says_nothing() -> None:
    joint, apart = (sample("ddim", guidance=Guidance(5.0, reference_scale=v)).latents for v in (None, 2.0))
    assert torch.equal(joint, apart)
    assert torch.equal(
        sample("ddim", guidance=Guidance(1.0, reference_scale=3.0), negative=None).latents,
        sample("ddim", guidance=Guidance(1.0)).latents,
    )


def test_the_reference_ends_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    branch = Recorded()
    with pytest.raises(SamplingError, match="negative"):
        sample("ddim", guidance=Guidance(1.0, reference_scale=3.0), negative=None, reference=branch)
    assert (branch.seeds, branch.ends) == ([], 0)
    monkeypatch.setattr(type(backbone().unet), "forward", lambda _, value, *__, **___: (value[:, :4] * float("nan"),))
    with pytest.raises(NonFinitePredictionError):
        sample("ddim", reference=branch)
    assert (len(branch.seeds), branch.ends) == (1, 1)


def test_stages_begin_and_end_the_reference_each(fake: Recorded) -> None:
    positive, negative = prompts()
    run_stages(
        backbone(),
        make_scheduler(backbone(), "ddim"),
        plan_stages(4, 0.5),
        None,
        lambda stage, _: StageInput(picture(), square_mask()),
        lambda stage, scene, _: scene,
        positive=positive,
        negative=negative,
        generators=make_generators([7]),
        steps=4,
        guidance=Guidance(5.0, reference_scale=2.0),
        reference=fake,
    )
    assert (fake.seeds, fake.ends) == ([[7], [7]], 2)
    assert [call["step"] for call in fake.calls] == [0, 1, 2, 3]


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_a_bad_reference_scale_is_refused(bad: float) -> None:
    with pytest.raises(SamplingError, match="reference guidance scale"):
        Guidance(reference_scale=bad)
    with pytest.raises(SamplingError, match="reference_scale"):
        guide_apart(*torch.zeros(3, 1, 4, 2, 2), Guidance())
