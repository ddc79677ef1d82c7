"""The step ``blend``: the chosen removal laid into the photo, so that everything far from it keeps its bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from intarsia.engines.pairs.options import PairOptions
from intarsia.engines.pairs.samples import BoolArray, Pixels, Row, image_of, mask_of, png, rgb_of, rounded
from intarsia.engines.pairs.views import blurred
from intarsia.imaging import Mask

FloatArray = NDArray[np.float32]


def make_blend(options: PairOptions) -> Callable[[Row], list[Row]]:
    """The step ``blend``."""
    return partial(blend_row, options=options)


def alpha_of(painted: BoolArray, width: int, profile: str) -> FloatArray:
    """Weights (H, W) of the removal: 1 inside the painted mask, exactly 0 beyond ``width`` px outside it.

    ``distance``: a cosine ramp of the distance. ``gaussian``: the mask under a Gaussian of a third of the width,
    brought to 1 inside.
    """
    mask = Mask(painted)
    if not width:
        return painted.astype(np.float32)
    if profile == "distance":
        return mask.feather(width)
    near = mask.grow(width).array
    soft = np.minimum(2 * blurred(painted, width / 3), 1)
    return np.asarray(np.where(painted, 1, np.where(near, soft, 0)), np.float32)


def blend(photo: Pixels, removed: Pixels, alpha: FloatArray) -> Pixels:
    """alpha·removed + (1 - alpha)·photo, rounded; where alpha is 0 the photo's own values, which is asserted."""
    weight = alpha[..., None]
    mixed = np.rint(weight * removed.astype(np.float32) + (1 - weight) * photo.astype(np.float32)).astype(np.uint8)
    result = np.where(weight > 0, mixed, photo)
    far = alpha == 0
    if not np.array_equal(result[far], photo[far]):
        raise AssertionError("pixels outside the blend changed")
    return result


def blend_row(row: Row, *, options: PairOptions) -> list[Row]:
    """Adds ``source.png`` (the photo without the thing), ``target.png``, and ``support`` (the share of pixels that may
    differ). A decoy is laid into both. The candidates go."""
    photo = rgb_of(image_of(row))
    width = round(options.blend_width * max(photo.shape[:2]))
    painted = mask_of(row["painted.png"])
    alpha = alpha_of(painted, width, options.blend)
    target = photo
    if "decoy.png" in row:
        decoy = alpha_of(mask_of(row["decoy_mask.png"]), width, options.blend)
        target = blend(photo, rgb_of(row["decoy.png"]), decoy)
    source = blend(target, rgb_of(row[f"candidate_{row['candidate']}.png"]), alpha)
    kept = {name: value for name, value in row.items() if not name.startswith("candidate_") and name != "decoy.png"}
    return [
        {
            **kept,
            "source.png": png(source),
            "target.png": png(target),
            "support": rounded(float((alpha > 0).mean())),
        }
    ]
