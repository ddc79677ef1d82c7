"""Annotations in COCO's format: COCO, LVIS, and the referring expressions of the RefCOCO family."""

from __future__ import annotations

import io
import json
import pickle
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from intarsia.engines.pairs.errors import AnnotationsError, InstanceError
from intarsia.engines.pairs.instances import Instance, stays_below
from intarsia.engines.pairs.run_lengths import mask_of_polygons, mask_of_runs, mask_text
from intarsia.perception import Box, box_of, clip_box

_MOST_PIXELS = 100_000_000
_FAR = 1e6


def read_coco(
    path: Path,
    photos: Path,
    kind: Literal["coco", "lvis"] = "coco",
    expressions: Mapping[str, tuple[str, ...]] | None = None,
) -> Iterator[Instance]:
    """The instances of a file ``instances_*.json`` or ``lvis_v1_*.json``; pictures lie in ``photos``, or in a folder of
    it that is named as the split (``val2017``). ``expressions``: referring expressions by annotation id.

    What cannot be used keeps its line, with a reason: crowds are dropped, an annotation without id, picture or class,
    with a picture outside ``photos``, or with a broken mask, is faulty. Raises AnnotationsError: the file as a whole
    is not in COCO's format.
    """
    content = _load(path)
    try:
        images, categories, lines = (content[name] for name in ("images", "categories", "annotations"))
        licences = content.get("licenses") or []
    except (KeyError, TypeError, AttributeError) as error:
        raise AnnotationsError(f"{path} is not in COCO's format (it lacks {error}): give {kind}'s instances") from error
    if not all(isinstance(part, list) for part in (images, categories, lines, licences)):
        raise AnnotationsError(f"{path} is not in COCO's format (its parts are no lists): give {kind}'s instances")
    table = _Table(
        kind,
        photos,
        _by_id(images),
        {key: _words(one["name"]) for key, one in _by_id(categories).items() if isinstance(one.get("name"), str)},
        {key: str(one.get("name") or one.get("url") or "") or None for key, one in _by_id(licences).items()},
        expressions or {},
    )
    for number, line in enumerate(lines):
        yield table.instance(line, f"line-{number}")


@dataclass(frozen=True)
class _Table:
    """A file's parts by their ids."""

    kind: str
    photos: Path
    images: Mapping[Any, Mapping[str, Any]]
    classes: Mapping[Any, str]
    licences: Mapping[Any, str | None]
    expressions: Mapping[str, tuple[str, ...]]

    def instance(self, line: Any, name: str) -> Instance:
        """``name``: what it is called if it has no id."""
        bare = Instance(self.kind, "COCO", "unknown", name, None, None)
        if not isinstance(line, Mapping):
            return replace(bare, fault=f"the annotation is a {type(line).__name__}: give an object")
        number, image = _id(line, "id"), _id(line, "image_id")
        one = replace(
            bare,
            img_id="unknown" if image is None else str(image),
            ann_id=name if number is None else str(number),
            class_name=self.classes.get(_id(line, "category_id")),
            expressions=() if number is None else self.expressions.get(str(number), ()),
            fault="it has no id: give each annotation its own" if number is None else None,
        )
        try:
            return self._filled(one, line, self.images.get(image))
        except InstanceError as error:
            return replace(one, fault=one.fault or str(error))
        except Exception as error:  # anything can be in a file
            return replace(one, fault=one.fault or f"it cannot be read ({type(error).__name__}: {error})")

    def _filled(self, one: Instance, line: Mapping[str, Any], image: Mapping[str, Any] | None) -> Instance:
        if image is None:
            return replace(one, fault=one.fault or "the annotations do not list its picture")
        one = replace(
            one,
            picture=_picture(image, self.photos),
            licence=self.licences.get(_id(image, "license")),
            split=_split(image),
        )
        if one.fault is not None or line.get("iscrowd"):
            return replace(one, box=_box(line, image), drop="crowd" if line.get("iscrowd") else None)
        try:
            size = _size(image["height"], image["width"])
            mask = _mask(line.get("segmentation"), size)
        except Exception as error:
            return replace(one, box=_box(line, image), fault=f"its mask cannot be read ({error})")
        return replace(one, runs=mask_text(mask), box=box_of(mask) if mask.shape == size else _box(line, image))


def read_expressions(path: Path) -> dict[str, tuple[str, ...]]:
    """Referring expressions by COCO annotation id, of a list of {ann_id, sentences: [{sent}]} as RefCOCO, RefCOCO+ and
    RefCOCOg have it, in JSON, or in their pickles of plain values. Broken entries are left out. Raises
    AnnotationsError: none is whole."""
    content = _unpickled(path) if path.suffix in (".p", ".pkl", ".pickle") else _load(path)
    found: dict[str, list[str]] = defaultdict(list)
    problem: Exception | str = "no entry has an ann_id" if isinstance(content, list) else "it is no list"
    for line in content if isinstance(content, list) else ():
        try:
            number = _id(line, "ann_id")
            texts = [one if isinstance(one, str) else one.get("sent") or one["raw"] for one in line["sentences"]]
        except (KeyError, TypeError, AttributeError) as error:
            problem = error
            continue
        if number is not None:
            found[str(number)] += [_words(text) for text in texts if isinstance(text, str)]
    if not found:
        raise AnnotationsError(f"{path} holds no referring expressions ({problem}): give RefCOCO's refs")
    return {key: tuple(dict.fromkeys(text for text in texts if text)) for key, texts in found.items()}


def _by_id(parts: list[Any]) -> dict[Any, Mapping[str, Any]]:
    """What has no id, or is no object, nothing can refer to."""
    return {_id(one, "id"): one for one in parts if isinstance(one, Mapping) and _id(one, "id") is not None}


def _id(line: Mapping[str, Any], name: str) -> int | float | str | None:
    value = line.get(name)
    return value if isinstance(value, int | float | str) and value != "" else None


def _size(height: Any, width: Any) -> tuple[int, int]:
    size = int(height), int(width)
    if min(size) < 1 or size[0] * size[1] > _MOST_PIXELS:
        raise InstanceError(f"it is said to have {size[1]}x{size[0]} px")
    return size


def _box(line: Mapping[str, Any], image: Mapping[str, Any]) -> Box | None:
    """The annotation's own box, for what has no mask that could be read."""
    try:
        x, y, w, h = (float(side) for side in line["bbox"])
        return clip_box(x, y, w, h, _size(image["height"], image["width"]))
    except (InstanceError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _mask(segmentation: Any, size: tuple[int, int]) -> Any:
    if isinstance(segmentation, Mapping):
        height, width = segmentation["size"]
        _size(height, width)
        return mask_of_runs(segmentation)
    if isinstance(segmentation, list) and segmentation:
        # NaN is not below anything.
        if not all(abs(value) < _FAR for polygon in segmentation for value in polygon):
            raise InstanceError("a polygon leads far out of any picture")
        return mask_of_polygons(segmentation, size)
    raise InstanceError("there is none")


def _picture(image: Mapping[str, Any], photos: Path) -> str:
    """LVIS has no file name but the address of COCO's picture, whose folder is the split. Raises InstanceError: it
    leads out of the folder of photos."""
    address = str(image.get("coco_url") or "")
    name = str(image.get("file_name") or address.rsplit("/", 1)[-1])
    if not stays_below(name):
        raise InstanceError(f"its picture's name {name!r} is no path below the folder of photos: give one")
    split = _split(image)
    nested = f"{split}/{name}"
    try:
        return nested if split and not (photos / name).is_file() and (photos / nested).is_file() else name
    except OSError as error:
        raise InstanceError(f"its picture's name cannot be that of a file ({error.strerror}): give one") from error


def _split(image: Mapping[str, Any]) -> str | None:
    parts = str(image.get("coco_url") or "").rsplit("/", 2)
    return parts[-2] if len(parts) == 3 and parts[-2].startswith(("train", "val", "test")) else None


def _words(text: Any) -> str:
    return " ".join(str(text).lower().replace("_", " ").split())


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AnnotationsError(f"there is no file of annotations {path}; check the path") from error
    except (OSError, ValueError, RecursionError) as error:
        raise AnnotationsError(f"the annotations {path} cannot be read ({error}): give a JSON file") from error


class _Plain(pickle.Unpickler):
    """Lists, dicts, numbers and texts only: a pickle of anything else could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def _unpickled(path: Path) -> Any:
    try:
        return _Plain(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # pickles raise almost anything on hostile bytes
        raise AnnotationsError(f"the expressions {path} cannot be read ({error}): give plain values, or JSON") from (
            error
        )
