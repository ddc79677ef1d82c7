"""Annotations by short texts, as the command line gives them, and the table of instances they amount to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intarsia.engines.pairs.coco import read_coco, read_expressions
from intarsia.engines.pairs.errors import AnnotationsError
from intarsia.engines.pairs.folders import has_truth, read_folder, read_tabletop
from intarsia.engines.pairs.instances import Instance, hold_out, instance_rows, merge_same
from intarsia.engines.pairs.open_images import read_open_images

FORMS = "coco:FILE, lvis:FILE, refcoco:FILE, open-images:FILE, tabletop"


def list_instances(
    photos: Path,
    masks: Path | None,
    annotations: tuple[str, ...] = (),
    *,
    class_name: str | None = None,
    exclude: frozenset[str] = frozenset(),
    workers: int = 1,
) -> list[dict[str, Any]]:
    """The rows of all instances, see `Instance.row`.

    Args:
        masks: a folder of mask pictures; for Open Images those that its table names, without annotations one of
            `read_folder`. None where the annotations hold the masks.
        annotations: any of "coco:FILE", "lvis:FILE", "refcoco:FILE" (expressions, for COCO's instances),
            "open-images:FILE" and "tabletop"; none: "tabletop" where the pictures have their truth beside them, else
            the folder of masks.
        class_name: of things in a folder of masks that nothing else names.
        exclude: picture ids that are held out, such as those of a test set.

    Raises AnnotationsError: no folder, no instances, a file that is no such annotations.
    """
    if not photos.is_dir():
        raise AnnotationsError(f"{photos} is not a folder; name one that holds photos")
    found = _instances(photos, masks, annotations, class_name)
    if not found:
        raise AnnotationsError(f"the annotations of {photos} name no instance; check that they belong to these photos")
    return instance_rows(hold_out(merge_same(found), exclude), photos, masks, workers)


def _instances(
    photos: Path, masks: Path | None, annotations: tuple[str, ...], class_name: str | None
) -> list[Instance]:
    parts = [_parted(option) for option in dict.fromkeys(annotations)]
    expressions: dict[str, tuple[str, ...]] = {}
    for kind, path in parts:
        if kind == "refcoco":
            for key, texts in read_expressions(Path(path)).items():
                expressions[key] = expressions.get(key, ()) + texts
    found: list[Instance] = []
    for kind, path in parts:
        if kind == "coco":
            found += read_coco(Path(path), photos, "coco", expressions)
        elif kind == "lvis":
            found += read_coco(Path(path), photos, "lvis")
        elif kind == "open-images":
            if masks is None:
                raise AnnotationsError("Open Images needs the folder of its mask pictures as well: give it as masks")
            found += read_open_images(Path(path), photos)
        elif kind == "tabletop":
            found += read_tabletop(photos)
    if any(kind != "refcoco" for kind, _ in parts):
        return found
    if expressions:
        raise AnnotationsError("refcoco's expressions need COCO's instances: give coco:FILE as well")
    if masks is not None and masks.resolve() != photos.resolve():
        return list(read_folder(photos, masks, class_name))
    if has_truth(photos):
        return list(read_tabletop(photos))
    raise AnnotationsError(f"nothing says where the things in {photos} are: give a folder of masks, or annotations")


def _parted(option: str) -> tuple[str, str]:
    kind, _, path = option.partition(":")
    if kind not in ("coco", "lvis", "refcoco", "open-images", "tabletop") or (kind == "tabletop") == bool(path):
        raise AnnotationsError(f"the annotations {option!r} are of no known kind: use {FORMS}")
    return kind, path
