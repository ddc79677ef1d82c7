"""The step ``segment``: a picture becomes its candidates, each with a mask and what can be said of the mask."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intarsia.engines.quadruplets.samples import BoolArray, Pixels, Row, box_of_text, photo_of, png, rounded
from intarsia.imaging import Window
from intarsia.perception import (
    Box,
    Helpers,
    Segmenter,
    box_iou,
    box_of,
    crop,
    grow,
    largest_share,
    mask_iou,
    shrink,
)

_TWIN = 0.7
_WORKING_SIDE = 160
_MARGIN = 0.25
_OFF = 0.05


def make_segment(helpers: Helpers) -> Callable[[Row], list[Row]]:
    """The step ``segment``."""
    return partial(segment, segmenter=helpers.load_segmenter())


def segment(row: Row, *, segmenter: Segmenter) -> list[Row]:
    """The rows KEY/scene, which keeps the picture, and KEY/0, KEY/1, … , one for each box, with ``mask.png``.

    All of them carry the picture to the later steps; the last step leaves it to KEY/scene alone. A candidate's mask
    is asked for a second time with the first mask's own box (``mask_stability``).
    """
    photo = photo_of(row)
    boxes: list[dict[str, Any]] = json.loads(row["boxes"])
    common = {name: value for name, value in row.items() if name not in ("tags", "dropped_tags", "boxes")}
    asked = [box_of_text(box["box"]) for box in boxes]
    masks = segmenter.segment(photo, asked)
    tight = [box_of(found.mask) for found in masks]
    again = segmenter.segment(photo, [own or box for own, box in zip(tight, asked, strict=True)])
    rows: list[Row] = [{**row, "key": f"{row['key']}/scene", "instance": 0}]
    for number, (box, found, own, second) in enumerate(zip(boxes, masks, tight, again, strict=True)):
        rows.append(
            {
                **common,
                **box,
                "key": f"{row['key']}/{number}",
                "scene": f"{row['key']}/scene",
                "picture_tags": row["tags"],
                "instance": 1,
                "mask.png": png(found.mask),
                "predicted_iou": rounded(found.predicted_iou),
                **_shape(found.mask, own, asked[number]),
                "mask_stability": rounded(mask_iou(found.mask, second.mask)),
                "edge_ratio": rounded(edge_ratio(photo.rgb, found.mask, own)),
                **_neighbours(number, [other.mask for other in masks]),
            }
        )
    return rows


def _shape(mask: BoolArray, own: Box | None, asked: Box) -> dict[str, Any]:
    if own is None:
        return {"fill": None, "largest_part": None, "mask_box_iou": None}
    x, y, w, h = own
    return {
        "x": x,
        "y": y,
        "w": w,
        "h": h,
        "fill": rounded(mask.sum() / (w * h)),
        "largest_part": rounded(largest_share(mask)),
        "mask_box_iou": rounded(box_iou(own, asked)),
    }


def _neighbours(number: int, masks: Sequence[BoolArray]) -> dict[str, Any]:
    """``twin_iou``: the highest mask IoU with a better candidate; ``overlap``: the largest share of the mask that the
    mask of another thing claims as well."""
    mine = masks[number]
    ious = [mask_iou(mine, other) for other in masks]
    claimed = [
        float((mine & other).sum() / max(1, mine.sum()))
        for n, other in enumerate(masks)
        if n != number and ious[n] < _TWIN
    ]
    return {"twin_iou": rounded(max(ious[:number], default=0.0)), "overlap": rounded(max(claimed, default=0.0))}


def edge_ratio(rgb: Pixels, mask: BoolArray, own: Box | None) -> float | None:
    """Whether the mask's outline is where the picture's edges are: the mean colour gradient along it by the larger of
    those along the outlines of the mask shrunk and grown by 5 % of its size. Above 1 it fits better than both."""
    if own is None:
        return None
    pixels = crop(rgb, own, _MARGIN)
    part = crop(np.repeat(mask[..., None], 1, axis=-1).astype(np.uint8), own, _MARGIN)[..., 0].astype(bool)
    scale = min(1.0, _WORKING_SIDE / max(part.shape))
    values = pixels.astype(np.float32) / np.float32(255)
    if scale < 1:
        size = (max(1, round(part.shape[0] * scale)), max(1, round(part.shape[1] * scale)))
        values = Window.resize(values, size, "area")
        part = Window.resize(part.astype(np.float32), size, "area") >= 0.5
    if not part.any():
        return None
    gradient = _gradient(values)
    off = max(2, round(_OFF * float(np.sqrt(part.sum()))))
    here = _along(gradient, part)
    beside = max(_along(gradient, shrink(part, off)), _along(gradient, grow(part, off)))
    return here / max(beside, 1e-4)


def _gradient(values: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    across = padded[1:-1, 2:] - padded[1:-1, :-2]
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    return np.asarray(np.sqrt((across**2 + down**2).sum(axis=-1)), np.float32)


def _along(gradient: NDArray[np.float32], mask: BoolArray) -> float:
    outline = grow(mask, 1) & ~shrink(mask, 1)
    # The crop's own border is no outline.
    outline[0], outline[-1], outline[:, 0], outline[:, -1] = False, False, False, False
    return float(gradient[outline].mean()) if outline.any() else 0.0
