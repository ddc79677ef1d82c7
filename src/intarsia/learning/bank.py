"""The bank of encoded samples: the VAE and the text towers are asked once per window, not in every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from intarsia.conditioning import Conditioning, encode_prompt
from intarsia.learning.views import View
from intarsia.sampling import latent_mask, masked_image

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.backbones import Backbone

_CHUNK = 8


@dataclass(frozen=True, eq=False)
class Sample:
    """One window. `image` and `masked` are posterior moments (2C, h, w), `mask` is the latent mask (1, h, w).

    `prompts`: rows of the bank's conditioning to draw from; `size`: (height, width) in pixels.
    """

    image: Tensor
    masked: Tensor
    mask: Tensor
    prompts: tuple[int, ...]
    size: tuple[int, int]
    regular: bool


@dataclass(frozen=True, eq=False)
class Bank:
    """Subject samples, regular samples, and the conditioning of every prompt."""

    subject: tuple[Sample, ...]
    regular: tuple[Sample, ...]
    conditioning: Conditioning


def encode_prompts(backbone: Backbone, prompts: Sequence[str]) -> Conditioning:
    """All prompts' conditioning, in chunks."""
    import torch

    parts = [encode_prompt(backbone, prompts[at : at + _CHUNK]) for at in range(0, len(prompts), _CHUNK)]
    return Conditioning(torch.cat([part.tokens for part in parts]), torch.cat([part.pooled for part in parts]))


def encode_views(
    backbone: Backbone,
    views: Sequence[View],
    prompts: Sequence[Sequence[int]],
    *,
    regular: bool,
    report: Callable[[int, int], None],
) -> tuple[Sample, ...]:
    """Encode each view's picture, and the same with its hole set to mid-grey, as the U-Net was trained."""
    import torch

    samples: list[Sample] = []
    with torch.no_grad():
        for view, rows in zip(views, prompts, strict=True):
            image = torch.from_numpy(np.array(view.image, np.float32)).permute(2, 0, 1)[None] * 2 - 1
            mask = torch.from_numpy(np.array(view.mask, np.float32))[None, None]
            moments = backbone.encode_moments(torch.cat([image, masked_image(image, mask)]))
            samples.append(
                Sample(
                    image=moments[0].to(backbone.device),
                    masked=moments[1].to(backbone.device),
                    mask=latent_mask(mask, backbone.latent_factor)[0].to(backbone.device),
                    prompts=tuple(rows),
                    size=(image.shape[2], image.shape[3]),
                    regular=regular,
                )
            )
            report(len(samples), len(views))
    return tuple(samples)
