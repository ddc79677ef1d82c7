"""The unified table of instances: one row for each thing that has a mask, whatever the annotations' format."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from intarsia.engines.errors import EngineError
from intarsia.engines.pairs.errors import InstanceError
from intarsia.engines.pairs.run_lengths import mask_of_text
from intarsia.perception import Box, box_iou, mask_iou

BoolArray = NDArray[np.bool_]
SAME_IOU = 0.9
_LIKELY_IOU = 0.6
_PART = re.compile(r"[A-Za-z0-9_-]{1,60}")
_ASPECT_SLACK = 0.02


@dataclass(frozen=True)
class MaskFile:
    """A mask picture below a folder of masks: white, or of a label map the pixels of one value. ``scaled``: it may be
    of another size if the aspect is the picture's."""

    path: str
    label: int | None = None
    scaled: bool = False


@dataclass(frozen=True)
class Instance:
    """One thing in one picture.

    ``annotations``: which kind of annotations names it ("coco", "lvis", "open-images", "folder", "tabletop");
    ``pictures``: what PIPE calls the picture's data set; ``picture``: the file below the folder of photos, None where
    the annotations do not list it. ``box`` is half-open (x, y, w, h), ``area`` in pixels, where they are known without
    decoding. ``drop``: why it is no candidate ("crowd"), ``fault``: why it cannot be used at all. ``also``: the same
    thing in other annotations.
    """

    annotations: str
    pictures: str
    img_id: str
    ann_id: str
    picture: str | None
    class_name: str | None
    runs: str | None = None
    mask_file: MaskFile | None = None
    box: Box | None = None
    licence: str | None = None
    expressions: tuple[str, ...] = ()
    split: str | None = None
    drop: str | None = None
    fault: str | None = None
    also: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Safe as a sample's key, and one level deep in each of data set, picture and annotation."""
        return "/".join(_part(text) for text in (self.annotations, self.img_id, self.ann_id))

    def row(self, digests: Mapping[str, str | None], others: Sequence[Box] = ()) -> dict[str, Any]:
        """The row of the engine's source; ``digests``: SHA-256 of picture and mask files, None for missing ones;
        ``others``: boxes of what else is in the picture."""
        x, y, w, h = self.box or (None,) * 4
        mask = self.mask_file
        return {
            "key": self.key,
            "annotations": self.annotations,
            "pictures": self.pictures,
            "img_id": self.img_id,
            "ann_id": self.ann_id,
            "source": self.picture,
            "source_sha256": digests.get(f"photo {self.picture}"),
            "class": self.class_name,
            "runs": self.runs,
            "mask_file": None if mask is None else mask.path,
            "mask_label": None if mask is None else mask.label,
            "mask_scaled": None if mask is None else mask.scaled,
            "mask_sha256": None if mask is None else digests.get(f"mask {mask.path}"),
            "x": x,
            "y": y,
            "w": w,
            "h": h,
            "licence": self.licence,
            "split": self.split,
            "others": json.dumps(others),
            "expressions": json.dumps(self.expressions, ensure_ascii=False),
            "also": json.dumps(self.also),
            "drop": self.drop,
            "fault": self.fault,
        }


def instance_rows(
    instances: Iterable[Instance], photos: Path, masks: Path | None, workers: int = 1
) -> list[dict[str, Any]]:
    """The engine's source: sorted by key; files are hashed, none is decoded. Raises EngineError: two of one key."""
    ordered = sorted(instances, key=lambda instance: instance.key)
    for one, other in pairwise(ordered):
        if one.key == other.key:
            raise EngineError(f"the annotation {one.key} occurs twice; give each thing an id of its own")
    files = {f"photo {one.picture}": photos / one.picture for one in ordered if one.picture is not None}
    if masks is not None:
        files |= {f"mask {one.mask_file.path}": masks / one.mask_file.path for one in ordered if one.mask_file}
    names = sorted(files)
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        digests = dict(zip(names, pool.map(_sha256, [files[name] for name in names]), strict=True))
    boxes: dict[str, list[tuple[str, Box]]] = defaultdict(list)
    for one in ordered:
        if one.picture is not None and one.box is not None and not (one.drop or "").startswith("the same"):
            boxes[one.picture].append((one.key, one.box))
    return [
        one.row(digests, [box for key, box in boxes.get(one.picture or "", ()) if key != one.key]) for one in ordered
    ]


def merge_same(instances: Sequence[Instance]) -> list[Instance]:
    """Of things that are the same in several annotations (one picture, mask IoU of at least 0.9) the first stays a
    candidate, with the others' keys in ``also`` and their expressions; the others get the reason ``drop``."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, one in enumerate(instances):
        if one.picture is not None and one.runs is not None and one.drop is None and one.fault is None:
            groups[one.picture].append(number)
    merged = list(instances)
    for numbers in groups.values():
        if len({instances[number].annotations for number in numbers}) < 2:
            continue
        masks = {number: mask_of_text(str(instances[number].runs)) for number in numbers}
        for place, number in enumerate(numbers):
            if merged[number].drop is not None:
                continue
            for other in numbers[place + 1 :]:
                if merged[other].drop is None and _same(merged[number], merged[other], masks[number], masks[other]):
                    mine, theirs = merged[number], merged[other]
                    merged[number] = replace(
                        mine,
                        also=(*mine.also, theirs.key),
                        expressions=tuple(dict.fromkeys([*mine.expressions, *theirs.expressions])),
                    )
                    merged[other] = replace(theirs, drop="the same thing as in other annotations")
    return merged


def read_mask(row: Mapping[str, Any], folder: Path | None, size: tuple[int, int]) -> BoolArray:
    """The mask of a row, at the picture's ``size`` (height, width). Raises InstanceError."""
    if row["runs"] is not None:
        mask = mask_of_text(row["runs"])
    elif row["mask_file"] is not None and folder is not None:
        mask = _mask_picture(folder / row["mask_file"], row)
    else:
        raise InstanceError(f"the annotation {row['key']} has no mask: give run lengths, polygons or a mask picture")
    if mask.shape != size and row["mask_scaled"] and _same_aspect(mask.shape, size):
        image = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST)
        mask = np.array(image)
    if mask.shape != size:
        raise InstanceError(
            f"the mask is {mask.shape[1]}x{mask.shape[0]} px but the picture is {size[1]}x{size[0]} px: make it at "
            "the picture's size"
        )
    if not mask.any():
        raise InstanceError("the mask is empty: white marks the thing")
    return mask


def _mask_picture(path: Path, row: Mapping[str, Any]) -> BoolArray:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InstanceError(f"the mask {row['mask_file']} is missing: put it into the folder of masks") from error
    if hashlib.sha256(data).hexdigest() != row["mask_sha256"]:
        raise InstanceError(f"the mask {row['mask_file']} changed while the engine ran: start again")
    try:
        with Image.open(path) as image:
            values = np.array(image.convert("L") if row["mask_label"] is None else image)
    except (OSError, ValueError) as error:
        raise InstanceError(f"the mask {row['mask_file']} is no picture: give a PNG") from error
    if values.ndim != 2:
        raise InstanceError(f"the label map {row['mask_file']} has {values.shape[-1]} channels: give one")
    return np.asarray(values > 127 if row["mask_label"] is None else values == row["mask_label"])


def _same(one: Instance, other: Instance, mask: BoolArray, other_mask: BoolArray) -> bool:
    if one.annotations == other.annotations or mask.shape != other_mask.shape:
        return False
    if one.box is not None and other.box is not None and box_iou(one.box, other.box) < _LIKELY_IOU:
        return False
    return mask_iou(mask, other_mask) >= SAME_IOU


def _same_aspect(one: tuple[int, ...], other: tuple[int, int]) -> bool:
    return abs(one[0] * other[1] - one[1] * other[0]) <= _ASPECT_SLACK * one[0] * other[1]


def _part(text: str) -> str:
    if _PART.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    words = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[-40:].strip("_")
    return f"{words}-{digest}" if words else digest


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def hold_out(instances: Sequence[Instance], exclude: frozenset[str]) -> list[Instance]:
    """Those of pictures that are held out get the reason ``drop``."""
    return [replace(one, drop=one.drop or "held out") if one.img_id in exclude else one for one in instances]
