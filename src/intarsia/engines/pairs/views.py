"""What image towers are shown of a place: its pixels in softened surroundings, and their embeddings."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from intarsia.engines.pairs.samples import BoolArray, Pixels
from intarsia.perception import Box, crop, grow

FloatArray = NDArray[np.float32]
MARGIN = 0.25
_DILATION, _BLUR = 0.04, 0.04


def region_view(rgb: Pixels, mask: BoolArray, box: Box) -> Pixels:
    """A mask's pixels (h, w, 3) with some margin around its box; what is outside is the picture's mean colour, and the
    passage is soft, as CLIP reads hard masks badly (Wasserman et al. 2024, E1)."""
    side = max(box[2], box[3])
    part = crop(rgb, box, MARGIN)
    inside = crop(np.repeat(mask[..., None], 3, axis=-1).astype(np.uint8), box, MARGIN)[..., 0].astype(bool)
    weights = blurred(grow(inside, max(1, round(_DILATION * side))), max(1.0, _BLUR * side))[..., None]
    mean = rgb.reshape(-1, 3).mean(axis=0)
    return np.asarray(np.rint(weights * part + (1 - weights) * mean), np.uint8)


def blurred(mask: BoolArray, sigma: float) -> FloatArray:
    """The mask under a Gaussian, float32 in [0, 1]."""
    image = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(sigma)), np.float32) / np.float32(255)


def spread(embeddings: FloatArray, variant: Literal["l2norm_trace", "raw_perdim_mean"]) -> float:
    """How much K embeddings (K, D) differ: the standard deviation with K in the denominator, as one number.

    ``l2norm_trace``: of unit vectors, the root of the summed variances, √(Σ_d var_d); with a mean cosine c of pairs
    this is √((1 - 1/K)(1 - c)). ``raw_perdim_mean``: of the vectors as they are, the mean over d of √var_d.
    """
    values = embeddings.astype(np.float64)
    if variant == "raw_perdim_mean":
        return float(values.std(axis=0).mean())
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    return float(np.sqrt(unit.var(axis=0).sum()))


def cosine(one: FloatArray, other: FloatArray) -> float:
    """Cosine of two embeddings (D,)."""
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
