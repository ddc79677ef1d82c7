"""The unified table of instances: one row for each thing that has a mask, whatever the annotations' format."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from intarsia.engines.pairs.errors import InstanceError
from intarsia.engines.pairs.looking import Looked, look_at_mask, look_at_photo
from intarsia.engines.pairs.mask_pictures import BoolArray, Shares, mask_in, open_mask
from intarsia.engines.pairs.run_lengths import mask_of_text
from intarsia.perception import Box, box_iou, clip_box, mask_iou

SAME_IOU = 0.9
SAME, INSIDE = "the same thing as in other annotations", "taken from the inside"
_LIKELY_IOU = 0.6
_LONGEST_FAULT = 300
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
    the annotations do not list it. ``box`` is half-open (x, y, w, h) in pixels; where only ``shares`` of the picture's
    sides are known, `instance_rows` makes a box of them. ``drop``: why it is no candidate ("crowd"), ``fault``: why it
    cannot be used at all. ``also``: the same thing in other annotations. ``again``: above 0 for a further one of the
    same ids.
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
    shares: Shares | None = None
    licence: str | None = None
    expressions: tuple[str, ...] = ()
    split: str | None = None
    drop: str | None = None
    fault: str | None = None
    also: tuple[str, ...] = ()
    again: int = 0

    @property
    def key(self) -> str:
        """Safe as a sample's key, and one level deep in each of data set, picture and annotation."""
        key = "/".join(_part(text) for text in (self.annotations, self.img_id, self.ann_id))
        return f"{key}-again{self.again}" if self.again else key

    def row(self, digests: Mapping[str, str | None], others: Sequence[Box] = ()) -> dict[str, Any]:
        """The row of the engine's source; ``digests``: SHA-256 of picture and mask files, None for missing ones;
        ``others``: boxes of what else is in the picture."""
        x, y, w, h = self.box or (None,) * 4
        mask = self.mask_file
        return {
            "key": self.key,
            "annotations": self.annotations,
            "pictures": self.pictures,
            "img_id": _unicode(self.img_id),
            "ann_id": _unicode(self.ann_id),
            "source": _unicode(self.picture),
            "source_sha256": digests.get(f"photo {self.picture}"),
            "class": _unicode(self.class_name),
            "runs": self.runs,
            "mask_file": None if mask is None else _unicode(mask.path),
            "mask_label": None if mask is None else mask.label,
            "mask_scaled": None if mask is None else mask.scaled,
            "mask_sha256": None if mask is None else digests.get(f"mask {mask.path}"),
            "x": x,
            "y": y,
            "w": w,
            "h": h,
            "licence": _unicode(self.licence),
            "split": _unicode(self.split),
            "others": json.dumps(others),
            "expressions": _unicode(json.dumps(self.expressions, ensure_ascii=False)),
            "also": json.dumps(self.also),
            "drop": self.drop,
            "fault": None if self.fault is None else _unicode(self.fault[:_LONGEST_FAULT]),
        }


def instance_rows(
    instances: Iterable[Instance], photos: Path, masks: Path | None, workers: int = 1
) -> list[dict[str, Any]]:
    """The engine's source: sorted by key. All files are read to be hashed; masks are decoded only where nothing else
    says where the thing is. Of several with the same ids the first stays, the others get a ``fault``."""
    ordered = _apart(sorted(instances, key=lambda instance: instance.key))
    placed = {one.picture for one in ordered if one.box is None and (one.shares or one.mask_file)}
    sought = {one.mask_file.path for one in ordered if one.mask_file and one.box is None and one.shares is None}
    pictures = sorted({one.picture for one in ordered if one.picture is not None})
    files = [] if masks is None else sorted({one.mask_file.path for one in ordered if one.mask_file})
    folder = masks or photos
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        seen = dict(
            zip(pictures, pool.map(lambda path: look_at_photo(photos / path, path in placed), pictures), strict=True)
        )
        shown = dict(zip(files, pool.map(lambda path: look_at_mask(folder / path, path in sought), files), strict=True))
    digests = {f"photo {path}": found.sha256 for path, found in seen.items()}
    digests |= {f"mask {path}": found.sha256 for path, found in shown.items()}
    near: dict[str, list[Instance]] = defaultdict(list)
    for number, one in enumerate(ordered):
        ordered[number] = one = _placed(one, seen, shown)
        if one.picture is not None and one.box is not None and one.drop not in (SAME, INSIDE):
            near[one.picture].append(one)
    return [one.row(digests, _others(one, near.get(one.picture or "", ()))) for one in ordered]


def stays_below(name: str) -> bool:
    """Whether a path that annotations give stays below the folder that it is joined to."""
    path = Path(name)
    return bool(name) and not path.anchor and ".." not in path.parts and "\0" not in name


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
                    merged[other] = replace(theirs, drop=SAME)
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
        return mask_in(open_mask(data), row["mask_label"])
    except InstanceError as error:
        raise InstanceError(f"the mask {row['mask_file']} cannot be read ({error}): give a whole PNG") from error


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


def _unicode(text: Any) -> Any:
    """The text with escapes for what is no Unicode, such as names of files in another encoding; None stays None."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def _apart(instances: Sequence[Instance]) -> list[Instance]:
    """With keys that are all different."""
    keys, used = {one.key for one in instances}, set[str]()
    apart = []
    for one in instances:
        if one.key in used:
            one = replace(one, again=1, fault=one.fault or "its id occurs twice: give each thing an id of its own")
            while one.key in keys:
                one = replace(one, again=one.again + 1)
            keys.add(one.key)
        used.add(one.key)
        apart.append(one)
    return apart


def _placed(one: Instance, seen: Mapping[str, Looked], shown: Mapping[str, Looked]) -> Instance:
    """With its box in pixels, where something says where the thing is."""
    photo = seen.get(one.picture or "")
    if one.box is not None or photo is None or photo.size is None:
        return one
    shares = one.shares
    if shares is None and one.mask_file is not None and one.mask_file.label is None:
        shares = shown.get(one.mask_file.path, Looked()).shares
    if shares is None:
        return one
    height, width = photo.size
    left, top, right, bottom = shares[0] * width, shares[1] * height, shares[2] * width, shares[3] * height
    return replace(one, box=clip_box(left, top, right - left, bottom - top, photo.size))


def _others(one: Instance, near: Sequence[Instance]) -> list[Box]:
    """Boxes of what else is in the picture. What another kind of annotations, or one of the same ids, says of nearly
    the same place is most likely the thing itself."""
    found = []
    for other in near:
        if other.box is None or other is one:
            continue
        doubtful = other.annotations != one.annotations or other.ann_id == one.ann_id
        if doubtful and one.box is not None and box_iou(one.box, other.box) >= _LIKELY_IOU:
            continue
        found.append(other.box)
    return found


def hold_out(instances: Sequence[Instance], exclude: frozenset[str]) -> list[Instance]:
    """Those of pictures that are held out get the reason ``drop``."""
    return [replace(one, drop=one.drop or "held out") if one.img_id in exclude else one for one in instances]
