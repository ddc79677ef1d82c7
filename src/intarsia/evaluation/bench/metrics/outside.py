"""What changed outside the mask, against the picture that was to be changed inside it only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
MOST = 100.0
"""dB of equal pictures."""


def psnr_outside(pixels: Pixels, source: Pixels, mask: Bools) -> float | None:
    """10 log10(255² / mean squared error) over the pixels of (H, W, 3) outside the mask (H, W), at most 100 dB; None
    where the mask is everywhere."""
    count = 3 * (mask.size - np.count_nonzero(mask))
    if not count:
        return None
    error = (np.square(pixels.astype(np.int32) - source).sum(2) * ~mask).sum() / count
    return MOST if error == 0 else min(MOST, float(10 * np.log10(255**2 / error)))


def bytes_outside(pixels: Pixels, source: Pixels, mask: Bools) -> int:
    """How many channel values outside the mask are not what they were."""
    return int(np.count_nonzero((pixels != source) & ~mask[..., None]))


def only_outside(pixels: Pixels, source: Pixels, mask: Bools) -> Pixels:
    """The picture with the source's pixels inside the mask, so that a network sees no other change."""
    return np.where(mask[..., None], source, pixels)
