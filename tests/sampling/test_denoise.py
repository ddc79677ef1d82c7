from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.sampling.helpers import backbone, picture, prompts, sample, square_mask

from intarsia.errors import NonFiniteError
from intarsia.sampling import (
    DenoiseStep,
    Guidance,
    KnownRegion,
    NonFinitePredictionError,
    SamplingError,
    blend_denoised,
    denoise,
    draw_noise,
    guide,
    latent_mask,
    make_generators,
    make_scheduler,
    masked_image,
    set_steps,
    start_latents,
)

STOCHASTIC = ["euler_a", "ddpm", "dpmpp_2m_sde_karras"]
KNOWN = KnownRegion(0.5 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(9)))
MASK = square_mask()[..., ::8, ::8]


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m_karras", "unipc"])
@pytest.mark.parametrize("scale, rescale", [(1.0, 0.0), (5.0, 0.0), (5.0, 0.7)])
def test_equals_the_diffusers_inpaint_pipeline(name: str, scale: float, rescale: float) -> None:
    from diffusers import StableDiffusionXLInpaintPipeline

    model, (positive, negative) = backbone(), prompts()
    pipe = StableDiffusionXLInpaintPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        text_encoder_2=model.text_encoder_2,
        tokenizer=model.tokenizer,
        tokenizer_2=model.tokenizer_2,
        unet=model.unet,
        scheduler=make_scheduler(model, name),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    height, width, steps = 64, 96, 5
    image, mask = picture(height, width), square_mask(height, width)
    noise = draw_noise(make_generators([3, 4]), (4, 8, 12))
    with torch.no_grad():
        masked = model.encode(masked_image(image, mask))
    theirs = pipe(
        image=(image + 1) / 2,
        mask_image=mask,
        masked_image_latents=masked,
        height=height,
        width=width,
        strength=1.0,
        num_inference_steps=steps,
        guidance_scale=scale,
        guidance_rescale=rescale,
        latents=noise,
        prompt_embeds=positive.tokens.repeat(2, 1, 1),
        negative_prompt_embeds=negative.tokens.repeat(2, 1, 1),
        pooled_prompt_embeds=positive.pooled.repeat(2, 1),
        negative_pooled_prompt_embeds=negative.pooled.repeat(2, 1),
        output_type="latent",
    ).images
    scheduler = make_scheduler(model, name)
    ours = denoise(
        model,
        scheduler,
        start_latents(set_steps(make_scheduler(model, name), steps), noise),
        mask=latent_mask(mask, 8),
        masked_image_latents=masked,
        positive=positive,
        negative=negative,
        generators=make_generators([0, 0]),
        steps=steps,
        guidance=Guidance(scale, rescale),
    ).latents
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["ddim", "unipc", *STOCHASTIC])
def test_the_same_call_twice_gives_the_same_bytes(name: str) -> None:
    first, second = (sample(name, (1, 2), known=KNOWN) for _ in range(2))
    assert torch.equal(first.latents, second.latents) and torch.equal(first.denoised, second.denoised)


@pytest.mark.parametrize("name", ["ddim", "unipc", *STOCHASTIC])
def test_a_sample_does_not_depend_on_its_neighbours(name: str) -> None:
    batch = sample(name, (11, 12, 13), known=KNOWN).latents
    for index, seed in enumerate((11, 12, 13)):
        torch.testing.assert_close(
            sample(name, (seed,), known=KNOWN).latents[0], batch[index], atol=1e-4, rtol=1e-4
        )
    assert not torch.allclose(batch[0], batch[1], atol=1e-2)


def test_the_global_random_state_is_neither_read_nor_changed() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = sample("euler_a").latents
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(sample("euler_a").latents, first)


@pytest.mark.parametrize("name", ["ddim", "euler", "euler_a"])
def test_a_schedule_can_be_run_in_two_parts(name: str) -> None:
    whole = sample(name, steps=6, known=KNOWN)
    generators = make_generators([5])
    noise = draw_noise(generators, (4, 8, 8))
    x = start_latents(set_steps(make_scheduler(backbone(), name), 6), noise)
    with torch.no_grad():
        masked = backbone().encode(masked_image(picture(), square_mask()))
    for start, end in ((0, 2), (2, 6)):
        part = denoise(
            backbone(),
            make_scheduler(backbone(), name),
            x,
            mask=MASK,
            masked_image_latents=masked,
            positive=prompts()[0],
            negative=prompts()[1],
            generators=generators,
            steps=6,
            start=start,
            end=end,
            known=KNOWN,
        )
        x = part.latents
    torch.testing.assert_close(x, whole.latents, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "euler_a"])
def test_the_known_region_is_held(name: str, prediction_type: str) -> None:
    result = sample(name, steps=6, known=KNOWN, prediction_type=prediction_type)
    outside = (MASK == 0).expand_as(result.denoised)
    known = KNOWN.latents.expand_as(result.denoised)
    assert torch.equal(result.denoised[outside], known[outside])
    torch.testing.assert_close(result.latents[outside], known[outside], atol=0.15, rtol=0)
    free = sample(name, steps=6, prediction_type=prediction_type)
    assert (free.denoised - known)[outside].abs().mean() > 10 * (result.latents - known)[outside].abs().mean()


def test_each_blend_can_be_switched_off() -> None:
    free = sample("ddim").latents
    off = sample("ddim", known=KnownRegion(KNOWN.latents, before=False, after=False)).latents
    torch.testing.assert_close(off, free)
    outcomes = [
        sample("ddim", known=KnownRegion(KNOWN.latents, before=before, after=after)).latents
        for before, after in ((True, False), (False, True), (True, True))
    ]
    assert not any(torch.allclose(one, free) for one in outcomes)
    assert not torch.allclose(outcomes[0], outcomes[2])


def test_a_mask_of_everything_makes_the_known_region_vanish() -> None:
    free = sample("dpmpp_2m", mask=torch.ones(1, 1, 8, 8)).latents
    held = sample("dpmpp_2m", mask=torch.ones(1, 1, 8, 8), known=KNOWN).latents
    torch.testing.assert_close(held, free, atol=1e-4, rtol=1e-4)


def test_fixed_noise_is_drawn_once() -> None:
    class Counting(list[torch.Generator]):
        draws = 0

        def __iter__(self) -> Any:
            Counting.draws += 1
            return super().__iter__()

    counts = {}
    for noise in ("fresh", "fixed"):
        Counting.draws = 0
        sample(
            "unipc", known=KnownRegion(KNOWN.latents, noise=noise), generators=Counting(make_generators([5]))
        )
        counts[noise] = Counting.draws
    assert counts["fresh"] - counts["fixed"] == 3  # 4 steps


def test_blend_by_hand() -> None:
    mask = torch.tensor([[[[1.0, 0.0]]]])
    assert blend_denoised(torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[7.0, 8.0]]]]), mask).tolist() == [
        [[[3.0, 8.0]]]
    ]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_name_the_step(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    unet, calls = backbone().unet, []
    forward = type(unet).forward

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        (value,) = forward(self, *args, **kwargs)
        return (value * bad,) if len(calls) == 3 else (value,)

    monkeypatch.setattr(type(unet), "forward", broken)
    with pytest.raises(NonFinitePredictionError, match="step 2") as caught:
        sample("ddim")
    assert caught.value.step == 2 and isinstance(caught.value, NonFiniteError) and len(calls) == 3


def test_callback_sees_every_step_and_the_last_is_returned() -> None:
    seen: list[DenoiseStep] = []
    result = sample("euler", steps=5, callback=seen.append)
    assert [one["step"] for one in seen] == list(range(5))
    assert [one["timestep"] for one in seen] == sorted((one["timestep"] for one in seen), reverse=True)
    assert torch.equal(seen[-1]["latents"], result.latents) and torch.equal(
        seen[-1]["denoised"], result.denoised
    )


def test_scheduler_and_inputs_are_not_changed() -> None:
    scheduler = make_scheduler(backbone(), "dpmpp_2m")
    before = copy.deepcopy(vars(scheduler))
    latents = torch.randn(1, 4, 8, 8)
    kept = latents.clone()
    denoise(
        backbone(),
        scheduler,
        latents,
        mask=MASK,
        masked_image_latents=torch.zeros(1, 4, 8, 8),
        positive=prompts()[0],
        negative=prompts()[1],
        generators=make_generators([0]),
        steps=3,
        known=KNOWN,
    )
    assert torch.equal(latents, kept)
    assert scheduler.num_inference_steps == before["num_inference_steps"] and scheduler.step_index is None
    assert torch.equal(scheduler.timesteps, before["timesteps"])


def test_guidance_interval_decides_which_steps_are_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    unet, batches = backbone().unet, []
    forward = type(unet).forward

    def counting(self: Any, value: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        batches.append(len(value))
        return forward(self, value, *args, **kwargs)

    monkeypatch.setattr(type(unet), "forward", counting)
    sample("ddim", steps=10, guidance=Guidance(5.0, interval=(0.2, 0.6)))
    assert batches == [1] * 2 + [2] * 4 + [1] * 4
    batches.clear()
    sample("ddim", steps=2, guidance=Guidance(1.0), negative=None)
    assert batches == [1, 1]


def test_guidance_rescale_is_per_sample() -> None:
    positive, negative = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    guided = guide(positive, negative, Guidance(6.0, rescale=1.0))
    torch.testing.assert_close(guided.flatten(1).std(dim=1), positive.flatten(1).std(dim=1))
    torch.testing.assert_close(guide(positive, negative, Guidance(1.0)), positive)


def test_time_ids_and_further_model_inputs_reach_the_unet(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = backbone().unet
    forward, seen = type(unet).forward, []

    def spying(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(unet), "forward", spying)
    ids = backbone().time_ids((100, 120), (1, 2), (64, 64))
    sample(
        "ddim",
        steps=1,
        time_ids=ids,
        negative_time_ids=ids * 2,
        model_inputs={"added_cond_kwargs": {"more": 1}},
    )
    added = seen[0]["added_cond_kwargs"]
    assert torch.equal(added["time_ids"], torch.cat([ids * 2, ids])) and added["more"] == 1
    assert added["text_embeds"].shape == (2, 24)
    sample("ddim", steps=1)
    assert seen[1]["added_cond_kwargs"]["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 2


def test_latent_mask_marks_every_touched_cell() -> None:
    mask = torch.zeros(1, 1, 32, 48)
    mask[0, 0, 9, 17] = 1
    cells = latent_mask(mask, 8)
    assert cells.sum() == 1 and cells[0, 0, 1, 2] == 1
    with pytest.raises(SamplingError, match="no pixel"):
        latent_mask(torch.zeros(1, 1, 32, 32), 8)
    with pytest.raises(SamplingError, match="multiples of 8"):
        latent_mask(torch.ones(1, 1, 33, 32), 8)
    with pytest.raises(SamplingError, match="shape"):
        latent_mask(torch.ones(32, 32), 8)


def test_masked_image_is_grey_in_the_hole() -> None:
    image, mask = picture(), square_mask()
    grey = masked_image(image, mask)
    hole = (mask > 0).expand_as(image)
    assert (grey[hole] == 0).all() and torch.equal(grey[~hole], image[~hole])


@pytest.mark.parametrize(
    "options, words",
    [
        ({"generators": make_generators([1, 2])}, "2 generators for 1"),
        ({"start": 3, "end": 3}, r"\[3, 3\)"),
        ({"end": 9}, r"\[0, 9\)"),
        ({"mask": torch.ones(1, 1, 4, 4)}, "latent mask"),
        ({"masked_image_latents": torch.ones(1, 4, 4, 4)}, "masked-image"),
        ({"negative": None}, "negative"),
    ],
)
def test_things_that_do_not_fit_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SamplingError, match=words):
        sample("ddim", **options)


def test_bad_guidance_is_refused() -> None:
    for bad in ({"scale": float("nan")}, {"scale": -1.0}, {"rescale": 2.0}, {"interval": (0.7, 0.2)}):
        with pytest.raises(SamplingError):
            Guidance(**bad)  # type: ignore[arg-type]
    with pytest.raises(SamplingError, match="sometimes"):
        KnownRegion(torch.zeros(1, 4, 8, 8), noise="sometimes")  # type: ignore[arg-type]
