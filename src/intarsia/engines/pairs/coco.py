"""Annotations in COCO's format: COCO, LVIS, and the referring expressions of the RefCOCO family."""

from __future__ import annotations

import io
import json
import pickle
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from intarsia.engines.pairs.errors import AnnotationsError, InstanceError
from intarsia.engines.pairs.instances import Instance
from intarsia.engines.pairs.run_lengths import mask_of_polygons, mask_of_runs, mask_text
from intarsia.perception import box_of


def read_coco(
    path: Path,
    photos: Path,
    kind: Literal["coco", "lvis"] = "coco",
    expressions: Mapping[str, tuple[str, ...]] | None = None,
) -> Iterator[Instance]:
    """The instances of a file ``instances_*.json`` or ``lvis_v1_*.json``; pictures lie in ``photos``, or in a folder of
    it that is named as the split (``val2017``). ``expressions``: referring expressions by annotation id.

    What cannot be used keeps its line, with a reason: crowds are dropped, an annotation without picture or class, or
    with a broken mask, is faulty. Raises AnnotationsError.
    """
    content = _load(path)
    sentences = expressions or {}
    try:
        images = {image["id"]: image for image in content["images"]}
        classes = {category["id"]: _words(category["name"]) for category in content["categories"]}
        licences = {one["id"]: one.get("name") or one.get("url") for one in content.get("licenses", [])}
        lines = content["annotations"]
    except (KeyError, TypeError, AttributeError) as error:
        raise AnnotationsError(f"{path} is not in COCO's format (it lacks {error}): give {kind}'s instances") from error
    for line in lines:
        image = images.get(line.get("image_id"))
        common: dict[str, Any] = {
            "annotations": kind,
            "pictures": "COCO",
            "img_id": str(line.get("image_id")),
            "ann_id": str(line.get("id")),
            "class_name": classes.get(line.get("category_id")),
            "expressions": sentences.get(str(line.get("id")), ()),
        }
        if image is None:
            yield Instance(**common, picture=None, fault="the annotations do not list its picture")
            continue
        picture = _picture(image, photos)
        common |= {"picture": picture, "licence": licences.get(image.get("license")), "split": _split(image)}
        if line.get("iscrowd"):
            yield Instance(**common, drop="crowd")
            continue
        try:
            mask = _mask(line.get("segmentation"), (int(image["height"]), int(image["width"])))
        except (InstanceError, KeyError, TypeError, ValueError) as error:
            yield Instance(**common, fault=f"its mask cannot be read ({error})")
            continue
        yield Instance(**common, runs=mask_text(mask), box=box_of(mask))


def read_expressions(path: Path) -> dict[str, tuple[str, ...]]:
    """Referring expressions by COCO annotation id, of a list of {ann_id, sentences: [{sent}]} as RefCOCO, RefCOCO+ and
    RefCOCOg have it, in JSON, or in their pickles of plain values. Raises AnnotationsError."""
    content = _unpickled(path) if path.suffix in (".p", ".pkl", ".pickle") else _load(path)
    found: dict[str, list[str]] = defaultdict(list)
    try:
        for line in content:
            for sentence in line["sentences"]:
                text = sentence if isinstance(sentence, str) else sentence.get("sent") or sentence["raw"]
                found[str(line["ann_id"])].append(_words(text))
    except (KeyError, TypeError, AttributeError) as error:
        raise AnnotationsError(f"{path} holds no referring expressions ({error}): give RefCOCO's refs") from error
    return {key: tuple(dict.fromkeys(text for text in texts if text)) for key, texts in found.items()}


def _mask(segmentation: Any, size: tuple[int, int]) -> Any:
    if isinstance(segmentation, Mapping):
        return mask_of_runs(segmentation)
    if isinstance(segmentation, list) and segmentation:
        return mask_of_polygons(segmentation, size)
    raise InstanceError("there is none")


def _picture(image: Mapping[str, Any], photos: Path) -> str:
    """LVIS has no file name but the address of COCO's picture, whose folder is the split."""
    address = str(image.get("coco_url") or "")
    name = str(image.get("file_name") or address.rsplit("/", 1)[-1])
    split = _split(image)
    nested = f"{split}/{name}"
    return nested if split and not (photos / name).is_file() and (photos / nested).is_file() else name


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
    except (OSError, ValueError) as error:
        raise AnnotationsError(f"the annotations {path} cannot be read ({error}): give a JSON file") from error


class _Plain(pickle.Unpickler):
    """Lists, dicts, numbers and texts only: a pickle of anything else could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def _unpickled(path: Path) -> Any:
    try:
        return _Plain(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError) as error:
        raise AnnotationsError(f"the expressions {path} cannot be read ({error}): give plain values, or JSON") from (
            error
        )
