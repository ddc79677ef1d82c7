"""Small inputs for the sampling tests."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from tests.conftest_tiny import tiny_backbone

from intarsia.backbones import Backbone
from intarsia.conditioning import Conditioning, empty_conditioning, encode_prompt
from intarsia.sampling import (
    Denoised,
    denoise,
    draw_noise,
    make_generators,
    make_scheduler,
    set_steps,
    start_latents,
)


@lru_cache(maxsize=4)
def backbone(prediction_type: str = "epsilon") -> Backbone:
    return tiny_backbone(prediction_type=prediction_type)


@lru_cache(maxsize=1)
def prompts() -> tuple[Conditioning, Conditioning]:
    return encode_prompt(backbone(), "a red mug on the table"), empty_conditioning(backbone())


def picture(height: int = 64, width: int = 64, seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


def square_mask(
    height: int = 64, width: int = 64, top: int = 16, left: int = 24, side: int = 24
) -> torch.Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., top : top + side, left : left + side] = 1
    return mask


def sample(
    name: str = "ddim",
    seeds: tuple[int, ...] = (5,),
    steps: int = 4,
    prediction_type: str = "epsilon",
    **options: Any,
) -> Denoised:
    """One whole run in one 64 px window."""
    model = backbone(prediction_type)
    scheduler = make_scheduler(model, name)
    generators = make_generators(seeds)
    noise = draw_noise(generators, (4, 8, 8))
    positive, negative = prompts()
    mask = square_mask()[..., ::8, ::8]
    with torch.no_grad():
        masked = model.encode(picture() * (square_mask() < 0.5))
    arguments: dict[str, Any] = {
        "mask": mask,
        "masked_image_latents": masked,
        "positive": positive,
        "negative": negative,
        "generators": generators,
        "steps": steps,
    }
    ready = set_steps(make_scheduler(model, name), steps)
    return denoise(model, scheduler, start_latents(ready, noise), **(arguments | options))
