"""Pictures as an image tower wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def prepare_for_image_encoder(
    images: Tensor,
    size: int,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1] -> (B, 3, size, size), bilinear with antialiasing, normalised as the
    tower wants.

    `mean` and `std` refer to values in [0, 1], as in `preprocessor_config.json`; 0.5 and 0.5 leave [-1, 1] as
    it is.
    """
    import torch
    from torch.nn.functional import interpolate

    resized = interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    if all(value == 0.5 for value in (*mean, *std)):
        return resized
    shape = (1, 3, 1, 1)
    centre = torch.tensor(mean, dtype=images.dtype, device=images.device).view(shape)
    spread = torch.tensor(std, dtype=images.dtype, device=images.device).view(shape)
    return ((resized + 1) / 2 - centre) / spread
