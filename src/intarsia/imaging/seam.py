"""Colour match at the seam: the generated picture is shifted to meet its surroundings, differently from
place to place."""

from __future__ import annotations

import numpy as np

from intarsia.errors import KnobError, SizeMismatchError
from intarsia.imaging.arrays import BoolArray, FloatArray
from intarsia.imaging.distance import bounding_box, distance_to
from intarsia.imaging.mask import Mask
from intarsia.imaging.membrane import membrane
from intarsia.imaging.window import Window

_SMOOTHINGS = 2
_RING_CELLS = 16


def match_seam(
    generated: FloatArray, source: FloatArray, mask: Mask, *, ring: int, strength: float = 1.0
) -> FloatArray:
    """Generated colours (H, W, 3) corrected so that they meet the source's at the mask's edge.

    On the ring of `ring` pixels outside the mask both pictures show the same scene, so their difference is
    the generator's own colour shift. It is smoothed along the ring, carried into the mask as a membrane,
    and added times `strength` (0 to 1); outside the ring it fades to nothing over another `ring` pixels.
    Where both are equal on the ring, nothing changes at all. Values may leave [0, 1]. Without a ring (whole
    picture masked, or 0) nothing changes.

    A ring of 32 pixels or more is worked on in cells of a sixteenth of its width, and ends to within a cell:
    the smoothing leaves nothing finer, and the effort no longer grows with the width.
    """
    if generated.shape != source.shape or generated.shape[:2] != mask.size:
        raise SizeMismatchError(
            f"generated {generated.shape}, source {source.shape} and mask {mask.size} differ in size; "
            "resize them first"
        )
    if ring < 0 or not 0 <= strength <= 1:
        raise KnobError(
            f"ring {ring}, strength {strength}: the ring must be 0 or more, the strength from 0 to 1"
        )
    result = np.array(generated, np.float32)
    box = bounding_box(mask.array)
    if box is None or not ring or not strength:
        return result
    top, left, height, width = box
    cell = max(1, ring // _RING_CELLS)
    reach = 2 * ring + 2 * cell
    part = (
        slice(max(0, top - reach), top + height + reach),
        slice(max(0, left - reach), left + width + reach),
    )
    masked, difference = mask.array[part], source[part] - result[part]
    if cell == 1:
        correction = _correction(difference, masked, ring)
    else:
        coarse = _correction(*_in_cells(difference, masked, cell), ring // cell)
        correction = Window.resize(coarse, masked.shape, "bilinear")
    result[part] += np.float32(strength) * correction
    return result


def _correction(difference: FloatArray, masked: BoolArray, ring: int) -> FloatArray:
    """What to add (H, W, 3): the ring's smoothed difference as a membrane, fading outside the ring."""
    distance = distance_to(masked, 2 * ring)
    on_ring = (distance > 0) & (distance <= ring)
    known = np.where(on_ring[..., None], difference, np.float32(0)).astype(np.float32)
    field = membrane(_smooth(known, on_ring, max(1, ring // 2)), on_ring)
    fade = np.clip(2 - np.minimum(distance, 2 * ring) / ring, 0, 1).astype(np.float32)[..., None]
    return np.asarray(fade * field, np.float32)


def _in_cells(difference: FloatArray, masked: BoolArray, cell: int) -> tuple[FloatArray, BoolArray]:
    """Means over the unmasked pixels of cells of about `cell` pixels a side, and the cells with any masked
    one.
    """
    size = (-(-masked.shape[0] // cell), -(-masked.shape[1] // cell))
    known = (~masked)[..., None].astype(np.float32)
    summed, weight = Window.resize(known * difference, size, "area"), Window.resize(known, size, "area")
    means = np.divide(summed, weight, out=np.zeros_like(summed), where=weight > 0)
    return means, Mask(masked).to_latent(size)


def _smooth(values: FloatArray, known: BoolArray, radius: int) -> FloatArray:
    """Normalised convolution (Knutsson and Westin 1993) of the known pixels with a box, repeated; unknown
    ones are 0."""
    weights = known.astype(np.float32)[..., None]
    total: FloatArray = np.maximum(_box_sum(weights, radius), np.float32(1))
    for _ in range(_SMOOTHINGS):
        values = weights * _box_sum(values, radius) / total
    return values


def _box_sum(array: FloatArray, radius: int) -> FloatArray:
    for axis in (0, 1):
        length = array.shape[axis]
        sums = np.cumsum(np.moveaxis(array, axis, 0), axis=0, dtype=np.float64)
        sums = np.concatenate([np.zeros_like(sums[:1]), sums])
        index = np.arange(length)
        upper, lower = np.minimum(index + radius + 1, length), np.maximum(index - radius, 0)
        array = np.asarray(np.moveaxis(sums[upper] - sums[lower], 0, axis), np.float32)
    return array
