"""The step ``read``: the picture, the mask, and what can be said of the mask without looking at the picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from intarsia.engines.pairs.errors import InstanceError
from intarsia.engines.pairs.instances import read_mask
from intarsia.engines.pairs.samples import BoolArray, Row, png, rounded
from intarsia.engines.quadruplets.reading import read as read_photo
from intarsia.perception import Box, box_of, largest_share


def make_read(photos: Path, masks: Path | None, least_side: int) -> Callable[[Row], list[Row]]:
    """The step ``read``."""
    return partial(read, photos=photos, masks=masks, least_side=least_side)


def read(row: Row, *, photos: Path, masks: Path | None, least_side: int) -> list[Row]:
    """Adds ``image.png`` or ``image.jpg``, ``mask.png``, the mask's tight box and `geometry`.

    Rejected: what the annotations drop (crowds, repetitions, held-out pictures), and pictures that cannot be used.
    Raises InstanceError for an unknown class, a missing picture, and a mask that is broken, empty or of another size.
    """
    if row["drop"] is not None:
        return [{**row, "rejected": row["drop"]}]
    if row["fault"] is not None:
        raise InstanceError(str(row["fault"]))
    if not row["class"]:
        raise InstanceError("the class is unknown: name it in the annotations")
    if row["source"] is None or row["source_sha256"] is None:
        raise InstanceError(f"the picture {row['source']} is missing: put it into the folder of photos")
    (row,) = read_photo({**row, "duplicate_of": None}, folder=photos, least_side=least_side)
    row.pop("duplicate_of")
    if row.get("rejected") is not None:
        return [row]
    mask = read_mask(row, masks, (row["height"], row["width"]))
    box = box_of(mask)
    assert box is not None
    x, y, w, h = box
    others = [(int(left), int(top), int(width), int(height)) for left, top, width, height in json.loads(row["others"])]
    return [{**row, "x": x, "y": y, "w": w, "h": h, "mask.png": png(mask), **geometry(mask, box, others)}]


def geometry(mask: BoolArray, box: Box, others: Sequence[Box] = ()) -> dict[str, Any]:
    """``area``: the mask's share of the picture; ``border``: the box's distance to the nearest border as a share of
    that side; ``side``, ``side_share``: the box's shorter side in px, and as a share of the picture's; ``fill``: mask
    by box; ``largest_part``: the largest connected part's share of the mask; ``crowding``: the share of the box that
    the boxes of other things cover: what is hidden behind a thing no removal can know."""
    x, y, w, h = box
    height, width = mask.shape
    across, down = min(x, width - x - w) / width, min(y, height - y - h) / height
    taken = np.zeros_like(mask)
    for left, top, wide, high in others:
        taken[top : top + high, left : left + wide] = True
    return {
        "area": rounded(float(mask.mean())),
        "border": rounded(min(across, down)),
        "side": min(w, h),
        "side_share": rounded(min(w / width, h / height)),
        "fill": rounded(float(mask.sum()) / (w * h)),
        "largest_part": rounded(largest_share(mask)),
        "crowding": rounded(float(taken[y : y + h, x : x + w].mean())),
    }
