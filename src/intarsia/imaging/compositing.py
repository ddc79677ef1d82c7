"""Putting the generated pixels into the source, and only there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intarsia.errors import MaskSizeError
from intarsia.imaging.arrays import BoolArray, FloatArray, describe
from intarsia.imaging.mask import Mask
from intarsia.imaging.picture import Picture


@dataclass(frozen=True, eq=False)
class Composite:
    """The finished picture, and `support` (H, W): outside it every byte equals the source's."""

    picture: Picture
    support: BoolArray


def composite(
    source: Picture, generated_rgb: FloatArray, mask: Mask, *, growth: int, feather: int
) -> Composite:
    """The generated colours (H, W, 3) in [0, 1] laid over the source inside the mask.

    The mask grows by `growth` pixels; over `feather` more pixels outside, generated and source are blended.
    The support is all of that. Where the source is transparent, its hidden colour takes no part in the
    blend, and the result is opaque. Raises `SizeMismatchError`, `KnobError`, and `NonFiniteError` for NaN
    from the model.
    """
    if mask.size != source.size:
        raise MaskSizeError(
            f"the mask is {describe(mask.size)} but the picture is {describe(source.size)}; "
            "make the mask at the picture's size"
        )
    weights = mask.grow(growth).feather(feather)
    support = weights > 0
    new = weights[..., None]
    old = (1 - new) * source.alpha()[..., None]
    total = np.where(support[..., None], new + old, np.float32(1))
    if generated_rgb.shape == (*source.size, 3):
        generated_rgb = ((new * generated_rgb + old * source.rgb()) / total).astype(np.float32)
    return Composite(source.with_rgb(generated_rgb, support), support)
