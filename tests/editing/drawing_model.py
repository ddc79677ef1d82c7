"""An instruction model that is not learned: it draws what a test says, so that what it adds is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tests.conftest_tiny import tiny_backbone
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from intarsia.backbones import Backbone
from intarsia.conditioning import encode_prompt

Drawing = Callable[[NDArray[Any]], NDArray[Any]]
SCALE = 0.5


class ShuffleVae(torch.nn.Module):
    """Loses nothing: latents are pixels, four to a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1), requires_grad=False)
        self.config = SimpleNamespace(block_out_channels=(8, 8), latent_channels=12, scaling_factor=SCALE)
        self.encoded = 0

    def encode(self, images: Tensor) -> Any:
        self.encoded += 1
        mean = pixel_unshuffle(images, 2)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, logvar=mean * 0 - 20))

    def decode(self, latents: Tensor, return_dict: bool = True) -> Any:
        return (pixel_shuffle(latents, 2),)


class DrawingUnet(torch.nn.Module):
    """Predicts the noise that leads to the source picture with the drawing of its words in it."""

    def __init__(self, drawings: list[tuple[Tensor, Drawing]], alphas: Tensor) -> None:
        super().__init__()
        self.conv_in = torch.nn.Conv2d(24, 1, 1).requires_grad_(False)
        self.config = SimpleNamespace(
            in_channels=24, out_channels=12, sample_size=32, block_out_channels=(8, 8), addition_embed_type="text_time"
        )
        self.drawings, self.alphas = drawings, alphas
        self.sources: list[NDArray[Any]] = []

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Any:
        noisy, image = sample.chunk(2, dim=1)
        source = pixel_shuffle(image, 2)[0].permute(1, 2, 0).numpy() / 2 + 0.5
        self.sources.append(source)
        picture = source
        for tokens, draw in self.drawings:
            if torch.equal(tokens, encoder_hidden_states):
                picture = draw(source.copy())
        values = torch.from_numpy(np.asarray(picture, np.float32)).permute(2, 0, 1)[None] * 2 - 1
        clean = pixel_unshuffle(values, 2) * SCALE
        alpha = self.alphas[int(timestep)]
        return ((noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt(),)


def drawing_model(**drawings: Drawing) -> Backbone:
    """`drawing_model(**{"add a red mug": draw})`; 64 px, two pixels to a latent cell. Other words draw nothing."""
    tiny = tiny_backbone(image_encoder=False)
    config = tiny.scheduler_config
    betas = torch.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, 1000) ** 2
    known = [(encode_prompt(tiny, words).tokens, draw) for words, draw in drawings.items()]
    unet = DrawingUnet(known, torch.cumprod(1 - betas, 0))
    return replace(tiny, name="drawing", vae=ShuffleVae(), unet=unet)


def block(top: float, left: float, height: float, width: float, colour: tuple[float, float, float]) -> Drawing:
    """A block of one colour; places and sizes as shares of the picture."""

    def draw(picture: NDArray[Any]) -> NDArray[Any]:
        rows, columns = picture.shape[:2]
        spans = [
            slice(round(start * side), round((start + length) * side))
            for start, length, side in ((top, height, rows), (left, width, columns))
        ]
        picture[spans[0], spans[1]] = colour
        return picture

    return draw
