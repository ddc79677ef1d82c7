"""The step ``cut``: the files of a quadruplet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from intarsia.engines.quadruplets.samples import IMAGES, Row, mask_of, photo_of, png
from intarsia.perception import Helpers, box_of

VERSION = "1"


def make_cut(helpers: Helpers) -> Callable[[Row], list[Row]]:
    """The step ``cut``."""
    names = {
        "tagger": helpers.load_tagger().name,
        "detector": helpers.load_detector().name,
        "segmenter": helpers.load_segmenter().name,
        "captioner": helpers.load_captioner().name,
        "scorer": helpers.load_scorer().name,
    }
    return partial(cut, names=names)


def cut(row: Row, *, names: Mapping[str, str]) -> list[Row]:
    """Adds ``subject.png`` (RGBA, the mask's tight box; white and transparent outside the mask) and the helpers' names,
    and takes the picture out of all rows but KEY/scene."""
    if not row["instance"]:
        return [row]
    mask = mask_of(row["mask.png"])
    box = box_of(mask)
    files = {}
    if box is not None:
        x, y, w, h = box
        inside = mask[y : y + h, x : x + w, None]
        pixels = np.where(inside, photo_of(row).rgb[y : y + h, x : x + w], np.uint8(255))
        alpha = inside.astype(np.uint8) * np.uint8(255)
        files["subject.png"] = png(np.concatenate([pixels, alpha], axis=-1))
    kept = {name: value for name, value in row.items() if name not in IMAGES and name != "picture_tags"}
    return [{**kept, **files, "helpers": json.dumps(dict(names), sort_keys=True), "engine": f"quadruplets/{VERSION}"}]
