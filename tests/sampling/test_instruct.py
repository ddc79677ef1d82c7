"""Guidance by instruction and source image: the published pipeline's predictions and pictures, from the one loop."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.backbones.instruct_models import published_layout, two_tower_model
from tests.sampling.helpers import backbone as inpainting
from tests.sampling.helpers import picture, square_mask

from intarsia.backbones import Backbone, load_instruct_model
from intarsia.conditioning import empty_conditioning, encode_prompt, substitute_attributes
from intarsia.sampling import (
    Denoised,
    Guidance,
    KnownRegion,
    SamplingError,
    denoise,
    draw_noise,
    make_generators,
    make_scheduler,
    set_steps,
    start_latents,
)

TEXT = "a red mug on the table"


@lru_cache(maxsize=1)
def two_towers() -> Backbone:
    return two_tower_model()


def edit(model: Backbone, name: str = "ddim", steps: int = 4, seeds: tuple[int, ...] = (5,), **more: Any) -> Denoised:
    height, width = 64, 96
    generators = make_generators(seeds)
    noise = draw_noise(generators, (4, height // model.latent_factor, width // model.latent_factor))
    with torch.no_grad():
        source = model.encode_source(picture(height, width))
    arguments: dict[str, Any] = {
        "image_latents": source,
        "positive": encode_prompt(model, TEXT),
        "negative": empty_conditioning(model),
        "generators": generators,
        "steps": steps,
        "guidance": Guidance(7.0, reference_scale=1.5),
    }
    ready = set_steps(make_scheduler(model, name), steps)
    return denoise(model, make_scheduler(model, name), start_latents(ready, noise), **(arguments | more))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Backbone]:
    folder: Path = tmp_path_factory.mktemp("models") / "add-base"
    return published_layout(folder), load_instruct_model(folder)


def test_one_tower_is_encoded_as_the_pipeline_does(published: tuple[Any, Backbone]) -> None:
    pipe, model = published
    theirs = pipe._encode_prompt(TEXT, "cpu", 1, True)
    ours = [encode_prompt(model, TEXT), empty_conditioning(model), empty_conditioning(model)]
    torch.testing.assert_close(torch.cat([one.tokens for one in ours]), theirs, atol=1e-6, rtol=0)
    assert ours[0].pooled.shape == (1, 0) and ours[1].tokens.abs().sum() > 0


def test_attributes_give_way_in_the_words_of_one_tower(published: tuple[Any, Backbone]) -> None:
    _, model = published
    plain, changed = encode_prompt(model, TEXT).tokens[0], substitute_attributes(model, TEXT, ["clay"])
    direction = encode_prompt(model, "a photo of a clay").tokens[0, 5]
    words = slice(1, 1 + len(TEXT.split()))
    along = changed.tokens[0, words].double() @ (direction / direction.norm()).double()
    assert along.abs().max() <= 1e-5 * plain.norm(dim=-1).max()
    assert not torch.allclose(changed.tokens[0, words], plain[words]) and changed.pooled.shape == (1, 0)
    assert torch.equal(substitute_attributes(model, TEXT, ["clay"], strength=0).tokens[0], plain)


@pytest.mark.parametrize("scales", [(7.0, 1.5), (7.5, 1.0), (2.0, 2.0)])
def test_a_guided_prediction_is_the_published_formula(
    published: tuple[Any, Backbone], scales: tuple[float, float]
) -> None:
    pipe, model = published
    words, image_scale = scales
    with torch.no_grad():
        source = pipe.vae.encode(picture(64, 96)).latent_dist.mode()
        x = draw_noise(make_generators([5]), (4, 8, 12))
        tokens = pipe._encode_prompt(TEXT, "cpu", 1, True)
        image = torch.cat([source, source, torch.zeros_like(source)])
        timesteps = set_steps(make_scheduler(model, "ddim"), 2).timesteps
        sample = torch.cat([torch.cat([x] * 3), image], 1)
        text, alone, neither = pipe.unet(sample, timesteps[0], encoder_hidden_states=tokens).sample.chunk(3)
        expected = neither + words * (text - alone) + image_scale * (alone - neither)
    level = float(make_scheduler(model, "ddim").alphas_cumprod[int(timesteps[0])])
    ours = edit(model, steps=2, end=1, guidance=Guidance(words, reference_scale=image_scale)).denoised
    torch.testing.assert_close(ours, (x - (1 - level) ** 0.5 * expected) / level**0.5, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_equals_the_published_pipeline(published: tuple[Any, Backbone], name: str) -> None:
    pipe, model = published
    pipe.scheduler = make_scheduler(model, name)
    theirs = pipe(
        TEXT,
        image=(picture(64, 96) + 1) / 2,
        num_inference_steps=4,
        guidance_scale=7.0,
        image_guidance_scale=1.5,
        latents=draw_noise(make_generators([5]), (4, 8, 12)),
        output_type="latent",
    ).images
    torch.testing.assert_close(edit(model, name).latents, theirs, atol=1e-3, rtol=1e-4)


def test_the_source_and_the_words_both_count() -> None:
    model = two_towers()
    whole = edit(model).latents
    assert whole.shape == (1, 4, 8, 12) and not torch.equal(edit(model, seeds=(6,)).latents, whole)
    assert torch.equal(edit(model).latents, whole)
    other = edit(model, positive=encode_prompt(model, "a blue duck")).latents
    assert not torch.allclose(other, whole, atol=1e-3)
    with torch.no_grad():
        source = model.encode_source(picture(64, 96, seed=3))
    assert not torch.allclose(edit(model, image_latents=source).latents, whole, atol=1e-3)


def test_blocks_that_do_not_see_the_source_get_zeros() -> None:
    model = two_towers()
    zeros = torch.zeros(1, 4, 8, 12)
    # With a source of zeros the image's part of the guidance is nothing, whatever its scale.
    first, second = (edit(model, image_latents=zeros, guidance=Guidance(7.0, reference_scale=s)) for s in (1.5, 3.0))
    torch.testing.assert_close(first.latents, second.latents, atol=1e-4, rtol=1e-4)
    # Guided together, from neither to both.
    joint = edit(model, guidance=Guidance(2.0)).latents
    torch.testing.assert_close(joint, edit(model, guidance=Guidance(2.0, reference_scale=2.0)).latents)


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    batch = edit(two_towers(), "euler_a", seeds=(1, 2)).latents
    alone = edit(two_towers(), "euler_a", seeds=(2,)).latents
    torch.testing.assert_close(alone[0], batch[1], atol=1e-4, rtol=1e-4)


def test_a_known_region_of_its_own_is_held_for_a_share_of_the_steps() -> None:
    model, scene = two_towers(), torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    hole = torch.zeros(1, 1, 8, 12)
    hole[..., :6] = 1
    free = edit(model).latents
    never, half, always = (edit(model, known=KnownRegion(scene, mask=hole, until=share)) for share in (0.0, 0.5, 1.0))
    assert torch.equal(never.latents, free)
    assert torch.equal(always.denoised[..., 6:], scene[..., 6:])
    assert not torch.allclose(half.latents, free) and not torch.allclose(half.denoised[..., 6:], scene[..., 6:])
    with pytest.raises(SamplingError, match="no share of the steps"):
        KnownRegion(scene, until=1.5)


def test_conditions_that_do_not_fit_are_refused() -> None:
    model, mask = two_towers(), square_mask(64, 96)[..., ::8, ::8]
    latents = torch.zeros(1, 4, 8, 12)
    with pytest.raises(SamplingError, match="not clear"):
        edit(model, mask=mask, masked_image_latents=latents)
    with pytest.raises(SamplingError, match="not clear"):
        edit(model, image_latents=None)
    with pytest.raises(SamplingError, match=r"give masked_image_latents, too"):
        edit(model, image_latents=None, mask=mask)
    with pytest.raises(SamplingError, match="reads 8 channels, latents and conditions have 9"):
        edit(model, image_latents=None, mask=mask, masked_image_latents=latents)
    with pytest.raises(SamplingError, match="do not fit latents"):
        edit(model, image_latents=torch.zeros(1, 4, 8, 8))
    with pytest.raises(SamplingError, match="2 conditions for 1 samples"):
        edit(model, image_latents=torch.zeros(2, 4, 8, 12))
    with pytest.raises(SamplingError, match="without a mask keeps no known region"):
        edit(model, known=KnownRegion(latents))
    with pytest.raises(SamplingError, match="reads 9 channels, latents and conditions have 8"):
        edit(inpainting())
