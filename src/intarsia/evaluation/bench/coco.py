"""COCO's instances as places to paint at: `instances_val2017.json` and the folder of its pictures."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from intarsia.errors import KnobError
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import MaskShape, SizeClass, size_class
from intarsia.evaluation.bench.tally import Tally

_FAR = 1e6
_OUTLINE_SLACK = 2
"""Pixels by which the box of an outline may differ from the annotated one."""


@dataclass(frozen=True)
class PlaceFilter:
    """Which annotations are places to paint at; sides in px, shares of the picture's area.

    ``sizes``: classes of the box's longer side by the picture's.
    """

    least_picture_side: int = 480
    least_box_side: int = 32
    least_share: float = 0.002
    greatest_share: float = 0.5
    sizes: tuple[SizeClass, ...] = ("small", "medium", "large")

    def __post_init__(self) -> None:
        for name, side in (("picture", self.least_picture_side), ("box", self.least_box_side)):
            if side < 1:
                raise KnobError(f"the least side of a {name} is {side} px; use 1 or more")
        if not 0 <= self.least_share < self.greatest_share <= 1:
            raise KnobError(
                f"the shares are {self.least_share:g} to {self.greatest_share:g}; use 0 <= least < greatest <= 1"
            )
        if bad := [size for size in self.sizes or ("",) if size not in get_args(SizeClass)]:
            raise KnobError(f"the size {bad[0]!r} is unknown; use {', '.join(get_args(SizeClass))}")


@dataclass(frozen=True)
class Place:
    """An annotated thing. ``file``: its picture, of ``size`` (height, width); ``box``: (x, y, w, h), the whole pixels
    that its annotated box touches."""

    annotation: int
    file: str
    size: tuple[int, int]
    box: tuple[int, int, int, int]
    polygons: Sequence[Sequence[float]] = ()

    @property
    def size_class(self) -> SizeClass:
        """By the longer sides of box and picture."""
        return size_class(max(self.box[2:]) / max(self.size))

    def mask(self, shape: MaskShape) -> NDArray[np.bool_] | None:
        """(H, W), True on the thing; None where the outline is not that of the box."""
        x, y, width, height = self.box
        if shape == "box":
            mask = np.zeros(self.size, bool)
            mask[y : y + height, x : x + width] = True
            return mask
        from intarsia.engines import pairs
        from intarsia.perception import box_of

        outline = pairs.mask_of_polygons(self.polygons, self.size)
        if (found := box_of(outline)) is None:
            return None
        edges = zip(_edges(found), _edges(self.box), strict=True)
        return outline if all(abs(one - other) <= _OUTLINE_SLACK for one, other in edges) else None


@dataclass(frozen=True)
class Places:
    """What an annotation file offers. ``left_out``: annotations that are no places."""

    items: tuple[Place, ...]
    left_out: Tally = field(default_factory=Tally)
    pictures: int = 0
    annotations: int = 0
    sha256: str = ""


def find_places(path: Path, pictures: Path, wanted: PlaceFilter, *, outlines: bool = False) -> Places:
    """The places of COCO's instances; no picture is opened. ``outlines``: only those with polygons.

    Raises:
        BenchError: the file is missing or not in COCO's format, none of its pictures lies in the folder, or no
            annotation is left.
    """
    content, digest = _load(path)
    try:
        names = {entry.name for entry in os.scandir(pictures) if entry.is_file()}
    except OSError as error:
        raise BenchError(f"the pictures {pictures} cannot be listed ({error.strerror}): give COCO's folder") from error
    images = {}
    for entry in content["images"]:
        if (image := _image(entry)) is not None:
            images[entry["id"]] = image
    if not names.intersection(file for file, _ in images.values()):
        first = next((file for file, _ in images.values()), "none")
        raise BenchError(
            f"{pictures} holds none of the {len(images)} pictures that {path} lists (the first: {first}): "
            "give the folder in which they lie"
        )
    items, left_out, seen = [], Tally(), set[int]()
    for number, line in enumerate(content["annotations"], 1):
        found = _place(line, images, names, wanted, outlines)
        if isinstance(found, Place) and found.annotation in seen:
            found = "annotation with the id of another"
        if isinstance(found, str):
            left_out.add(found, _name(line, number, images))
            continue
        seen.add(found.annotation)
        items.append(found)
    if not items:
        reasons = left_out.told() or "it lists none"
        raise BenchError(f"no annotation of {path} can be used ({reasons}): change the filters, or the file")
    return Places(tuple(items), left_out, len(images), len(content["annotations"]), digest)


def _load(path: Path) -> tuple[dict[str, list[Any]], str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BenchError(f"the annotations {path} cannot be read ({error.strerror}): check the path") from error
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BenchError(f"the annotations {path} are no JSON ({error}): download the file again") from error
    parts = ("images", "annotations")
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in parts):
        raise BenchError(f"{path} lacks lists of {' and '.join(parts)}: give COCO's instances_val2017.json")
    return content, hashlib.sha256(data).hexdigest()


def _image(entry: Any) -> tuple[str, tuple[int, int]] | None:
    """File name and (height, width)."""
    try:
        file, size = entry["file_name"], (entry["height"], entry["width"])
        whole = isinstance(file, str) and all(isinstance(side, int) and side > 0 for side in size)
        return (file, size) if whole and isinstance(entry["id"], int | str) else None
    except (KeyError, TypeError):
        return None


def _name(line: Any, number: int, images: Mapping[Any, tuple[str, tuple[int, int]]]) -> str:
    """How an annotation, the file's ``number``-th, is found again."""
    try:
        file, _ = images[line["image_id"]]
    except (KeyError, TypeError):
        file = "no listed picture"
    known = isinstance(line, dict) and isinstance(line.get("id"), int | str)
    return f"{file}, annotation {line['id']}" if known else f"{file}, annotation number {number} of the file"


def _place(
    line: Any,
    images: Mapping[Any, tuple[str, tuple[int, int]]],
    names: set[str],
    wanted: PlaceFilter,
    outlines: bool,
) -> Place | str:
    """The place of an annotation, or why it is none."""
    try:
        number, image, box = line["id"], line["image_id"], [float(value) for value in line["bbox"]]
        polygons = line.get("segmentation")
        if line.get("iscrowd"):
            return "annotation of a crowd"
        if image not in images:
            return "annotation of a picture that is not listed"
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return "annotation damaged"
    if not isinstance(number, int) or len(box) != 4 or not all(abs(value) < _FAR for value in box):
        return "annotation damaged"
    file, size = images[image]
    if file not in names:
        return "annotation of a picture that is missing"
    if min(size) < wanted.least_picture_side:
        return "annotation of a small picture"
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    # COCO's boxes may end a rounding outside.
    if min(box[2:]) <= 0 or min(left, top) < -1 or right > size[1] + 1 or bottom > size[0] + 1:
        return "annotation with a box off the picture"
    x, y = max(0, math.floor(left)), max(0, math.floor(top))
    width, height = min(size[1], math.ceil(right)) - x, min(size[0], math.ceil(bottom)) - y
    share = width * height / (size[0] * size[1])
    if min(width, height) < wanted.least_box_side or share < wanted.least_share:
        return "annotation with a small box"
    place = Place(number, file, size, (x, y, width, height), polygons if outlines else ())
    if share > wanted.greatest_share:
        return "annotation with a large box"
    if place.size_class not in wanted.sizes:
        return f"annotation of the size {place.size_class}"
    if outlines and not _is_outline(polygons):
        return "annotation without an outline"
    return place


def _is_outline(polygons: Any) -> bool:
    return (
        isinstance(polygons, list)
        and bool(polygons)
        and all(
            isinstance(polygon, list)
            and len(polygon) >= 6
            and len(polygon) % 2 == 0
            and all(isinstance(value, int | float) and abs(value) < _FAR for value in polygon)
            for polygon in polygons
        )
    )


def _edges(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return box[0], box[1], box[0] + box[2], box[1] + box[3]
