"""Masks as text, and what can be measured on them. Everything is (H, W) bool; boxes are half-open (x, y, w, h)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intarsia.perception.cutout import connected_regions
from intarsia.perception.errors import PerceptionError
from intarsia.perception.helpers import BoolArray, Box


def to_rle(mask: BoolArray) -> dict[str, Any]:
    """Uncompressed run lengths in COCO's form: column by column, the first run counts False."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat.size and flat[0] else counts}


def from_rle(rle: Mapping[str, Any]) -> BoolArray:
    """The mask of run lengths. Raises PerceptionError where they do not fill the size."""
    try:
        height, width = (int(side) for side in rle["size"])
        counts = np.asarray(rle["counts"], np.int64)
        if counts.ndim != 1 or (counts < 0).any() or counts.sum() != height * width:
            raise ValueError("the runs do not fill the size")
    except (KeyError, TypeError, ValueError) as error:
        raise PerceptionError(f"a mask's run lengths are malformed ({error}): give size and counts as COCO does") from (
            error
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")


def box_of(mask: BoolArray) -> Box | None:
    """The tight box of a mask; None for an empty one."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(ys):
        return None
    return int(xs[0]), int(ys[0]), int(xs[-1] - xs[0]) + 1, int(ys[-1] - ys[0]) + 1


def mask_iou(one: BoolArray, other: BoolArray) -> float:
    """Intersection over union; 0 for two empty masks."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0


def box_overlap(one: Box, other: Box) -> int:
    """Pixels that two boxes share."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


def box_iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    shared = box_overlap(one, other)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def clip_box(x: float, y: float, w: float, h: float, size: tuple[int, int]) -> Box | None:
    """The box rounded and cut to a picture of ``size`` (height, width); None where nothing is left."""
    left, top = max(0, round(x)), max(0, round(y))
    right, bottom = min(size[1], round(x + w)), min(size[0], round(y + h))
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def grow(mask: BoolArray, pixels: int) -> BoolArray:
    """Dilated by an octagon of that radius; beyond the picture there is nothing."""
    result = mask
    for step in range(pixels):
        padded = np.pad(result, 1)
        rows, columns = result.shape
        # Crosses and squares in turn are nearly a disc.
        offsets = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)] + ([(0, 0), (0, 2), (2, 0), (2, 2)] if step % 2 else [])
        result = np.logical_or.reduce([padded[y : y + rows, x : x + columns] for y, x in offsets])
    return result


def shrink(mask: BoolArray, pixels: int) -> BoolArray:
    """Eroded by an octagon of that radius; the picture's border erodes nothing."""
    return ~grow(~mask, pixels)


def largest_share(mask: BoolArray) -> float:
    """Share of the mask's pixels that its largest connected part holds; 0 for an empty mask."""
    box = box_of(mask)
    if box is None:
        return 0.0
    x, y, w, h = box
    regions: NDArray[np.int64] = connected_regions(mask[y : y + h, x : x + w])
    counts = np.unique(regions[regions >= 0], return_counts=True)[1]
    return float(counts.max() / counts.sum())
