"""Open Images: a table of segmentations, mask pictures, class names, and the flags of the boxes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from intarsia.engines.pairs.errors import AnnotationsError
from intarsia.engines.pairs.instances import Instance, MaskFile

_FLAGS = {"IsGroupOf": "crowd", "IsDepiction": "a depiction", "IsInside": "taken from the inside"}
_SUFFIXES = (".jpg", ".png", ".jpeg")
_DIGITS = 4
LICENCE = "CC BY 2.0"
Line = Mapping[str, str]


def read_open_images(
    path: Path, photos: Path, classes: Path | None = None, boxes: Path | None = None
) -> Iterator[Instance]:
    """The instances of a file ``*-annotations-object-segmentation.csv``.

    ``classes``: ``class-descriptions*.csv`` (label, name), ``boxes``: ``*-annotations-bbox.csv``, whose flags drop
    groups, depictions and views from the inside; None: the file of that name beside ``path``, if there is one. A label
    without a name is an unknown class. Mask pictures may be of another size than the photo. Raises AnnotationsError.
    """
    names = _names(classes or _beside(path, "class-descriptions*.csv"))
    flags = _flags(boxes or _beside(path, "*-annotations-bbox.csv"))
    for line in _lines(path, ("MaskPath", "ImageID", "LabelName")):
        image, label, mask = line["ImageID"], line["LabelName"], line["MaskPath"]
        yield Instance(
            annotations="open-images",
            pictures="OpenImages",
            img_id=image,
            ann_id=Path(mask).stem,
            picture=next(
                (f"{image}{end}" for end in _SUFFIXES if (photos / f"{image}{end}").is_file()), f"{image}.jpg"
            ),
            class_name=names.get(label),
            mask_file=MaskFile(mask, scaled=True),
            licence=LICENCE,
            split=path.name.split("-")[0] if "-" in path.name else None,
            drop=flags.get(_place(line, "Box")),
        )


def _names(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    with _open(path) as file:
        rows = [row for row in csv.reader(file) if len(row) >= 2]
    return {row[0]: " ".join(row[1].lower().split()) for row in rows if row[0] != "LabelName"}


def _flags(path: Path | None) -> dict[tuple[str, ...], str]:
    if path is None:
        return {}
    found: dict[tuple[str, ...], str] = {}
    for line in _lines(path, ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")):
        reason = next((words for name, words in _FLAGS.items() if line.get(name) == "1"), None)
        if reason is not None:
            found[_place(line)] = reason
    return found


def _place(line: Line, prefix: str = "") -> tuple[str, ...]:
    """Boxes and segmentations have no id in common but the place, to a few digits."""
    sides = [line.get(f"{prefix}{side}") for side in ("XMin", "XMax", "YMin", "YMax")]
    try:
        return (line["ImageID"], line["LabelName"], *(f"{float(side or 'nan'):.{_DIGITS}f}" for side in sides))
    except ValueError:
        return (line["ImageID"], line["LabelName"])


def _lines(path: Path, needed: Sequence[str]) -> Iterator[Line]:
    with _open(path) as file:
        reader = csv.DictReader(file)
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            raise AnnotationsError(f"{path} has no column {missing[0]}: give Open Images' table")
        for line in reader:
            yield {name: value or "" for name, value in line.items() if isinstance(name, str)}


def _open(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise AnnotationsError(f"the table {path} cannot be read ({error.strerror}): check the path") from error


def _beside(path: Path, pattern: str) -> Path | None:
    return next(iter(sorted(path.parent.glob(pattern))), None)
