"""The step ``detect``: boxes for the tags, and what can be said of a box without looking inside."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from intarsia.engines.quadruplets.samples import Row, box_text, photo_of, rounded
from intarsia.perception import Box, Detection, Detector, Helpers, box_iou, box_overlap

MOST_BOXES = 32
_SAME = 0.95
_INSIDE = 0.9


def make_detect(helpers: Helpers) -> Callable[[Row], list[Row]]:
    """The step ``detect``."""
    return partial(detect, detector=helpers.load_detector())


def detect(row: Row, *, detector: Detector) -> list[Row]:
    """Adds ``boxes``: JSON, one object of scores for each candidate, best first and at most 32. Boxes that are nearly
    the same as a better one of their tag (IoU above 0.95) are no candidates."""
    scores = dict(json.loads(row["tags"]))
    found: list[Detection] = []
    for new in sorted(detector.detect(photo_of(row), list(scores)), key=lambda detection: -detection.score):
        if all(new.tag != old.tag or box_iou(new.box, old.box) <= _SAME for old in found):
            found.append(new)
    found = found[:MOST_BOXES]
    size = (row["height"], row["width"])
    boxes = [
        {
            "tag": one.tag,
            "tag_score": scores.get(one.tag),
            "box": box_text(one.box),
            "box_score": rounded(one.score),
            "text_score": rounded(one.text_score),
            **geometry(one.box, size),
            **company(number, found),
        }
        for number, one in enumerate(found)
    ]
    row = {**row, "boxes": json.dumps(boxes)}
    return [row if found else {**row, "rejected": "nothing found"}]


def geometry(box: Box, size: tuple[int, int]) -> dict[str, Any]:
    """``area`` (share of the picture), ``side_share`` (of the picture's width or height, the smaller), ``side`` (px),
    ``aspect`` (longer by shorter side), ``borders`` (how many of the picture's the box touches)."""
    x, y, w, h = box
    height, width = size
    return {
        "area": rounded(w * h / (width * height)),
        "side_share": rounded(min(w / width, h / height)),
        "side": min(w, h),
        "aspect": rounded(max(w, h) / min(w, h)),
        "borders": (x <= 0) + (y <= 0) + (x + w >= width) + (y + h >= height),
    }


def company(number: int, found: Sequence[Detection]) -> dict[str, Any]:
    """``nms_iou``: the highest IoU with a better box of the same tag; ``contains``: how many other boxes of the same
    tag lie inside by nine tenths."""
    mine = found[number]
    others = [(n, other) for n, other in enumerate(found) if n != number and other.tag == mine.tag]
    better = [box_iou(mine.box, other.box) for n, other in others if n < number]
    inside = [
        other
        for _, other in others
        if box_overlap(mine.box, other.box) >= _INSIDE * other.box[2] * other.box[3]
        and other.box[2] * other.box[3] < mine.box[2] * mine.box[3]
    ]
    return {"nms_iou": rounded(max(better, default=0.0)), "contains": len(inside)}
