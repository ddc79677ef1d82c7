"""Open Images: a table of segmentations, mask pictures, class names, and the flags of the boxes."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from intarsia.engines.pairs.errors import AnnotationsError
from intarsia.engines.pairs.instances import INSIDE, Instance, MaskFile, stays_below
from intarsia.engines.pairs.mask_pictures import Shares

_FLAGS = {"IsGroupOf": "crowd", "IsDepiction": "a depiction", "IsInside": INSIDE}
_SUFFIXES = (".jpg", ".png", ".jpeg")
_SPLITS = ("train", "validation", "test", "challenge")
_DIGITS = 4
LICENCE = "CC BY 2.0"
Line = Mapping[str, str]


def read_open_images(
    path: Path, photos: Path, classes: Path | None = None, boxes: Path | None = None
) -> Iterator[Instance]:
    """The instances of a file ``*-annotations-object-segmentation.csv``.

    ``classes``: ``class-descriptions*.csv`` (label, name); None: all files of such a name beside ``path``. ``boxes``:
    ``*-annotations-bbox.csv``, whose flags drop groups, depictions and views from the inside; None: the one beside
    ``path`` that is of its split, else one of no split, if there is any. A label without a name is an unknown class. A
    line whose names lead out of the folders is faulty. Mask pictures may be of another size than the photo. Raises
    AnnotationsError: no such tables, or several of boxes that fit.
    """
    names = _names(sorted(path.parent.glob("class-descriptions*.csv")) if classes is None else [classes])
    flags = _flags(boxes or _boxes_beside(path))
    for line in _lines(path, ("MaskPath", "ImageID", "LabelName")):
        image, label, mask = line["ImageID"], line["LabelName"], line["MaskPath"]
        wrong = next((name for name in (image, mask) if not stays_below(name)), None)
        yield Instance(
            annotations="open-images",
            pictures="OpenImages",
            img_id=image or "unknown",
            ann_id=Path(mask).stem or "unknown",
            picture=_picture(photos, image) if wrong is None else None,
            class_name=names.get(label),
            mask_file=MaskFile(mask, scaled=True) if wrong is None else None,
            shares=_shares(line),
            licence=LICENCE,
            split=_split(path),
            drop=flags.get(_place(line, "Box")),
            fault=None if wrong is None else f"the name {wrong!r} is no path below the folder: give one",
        )


def _picture(photos: Path, image: str) -> str:
    try:
        return next(name for end in _SUFFIXES if (photos / (name := f"{image}{end}")).is_file())
    except (StopIteration, OSError):  # OSError: no file can have such a name
        return f"{image}.jpg"


def _names(paths: Sequence[Path]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        for row in _rows(path):
            if len(row) >= 2 and row[0] != "LabelName":
                found.setdefault(row[0], " ".join(row[1].lower().split()))
    return found


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
    try:
        return (line["ImageID"], line["LabelName"], *(f"{side:.{_DIGITS}f}" for side in _sides(line, prefix)))
    except ValueError:
        return (line["ImageID"], line["LabelName"])


def _sides(line: Line, prefix: str) -> list[float]:
    return [float(line.get(f"{prefix}{side}") or "nan") for side in ("XMin", "XMax", "YMin", "YMax")]


def _shares(line: Line) -> Shares | None:
    """Of the table's box; None where it has none."""
    try:
        left, right, top, bottom = _sides(line, "Box")
    except ValueError:
        return None
    return (left, top, right, bottom) if all(map(math.isfinite, (left, top, right, bottom))) else None


def _lines(path: Path, needed: Sequence[str]) -> Iterator[Line]:
    rows = _rows(path)
    header = next(rows, [])
    missing = [name for name in needed if name not in header]
    if missing:
        raise AnnotationsError(f"{path} has no column {missing[0]}: give Open Images' table")
    for row in rows:
        if row:
            yield {name: row[place] if place < len(row) else "" for place, name in enumerate(header)}


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        # Bytes that are no text spoil their own line only.
        with path.open(encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
            yield from csv.reader(file)
    except OSError as error:
        raise AnnotationsError(f"the table {path} cannot be read ({error.strerror}): check the path") from error
    except csv.Error as error:
        raise AnnotationsError(f"the table {path} cannot be read ({error}): give Open Images' table") from error


def _boxes_beside(path: Path) -> Path | None:
    found = sorted(path.parent.glob("*-annotations-bbox.csv"))
    own = _split(path)
    fitting = [one for one in found if _split(one) == own] if own in _SPLITS else found
    fitting = fitting or [one for one in found if _split(one) not in _SPLITS]
    if len(fitting) > 1:
        names = ", ".join(one.name for one in fitting)
        raise AnnotationsError(f"several tables of boxes fit {path}: leave one of {names} beside it")
    return fitting[0] if fitting else None


def _split(path: Path) -> str | None:
    """ "train" of "oidv6-train-annotations-bbox.csv"."""
    words = path.name.split("-")
    return next((word for word in words if word in _SPLITS), words[0] if len(words) > 1 else None)
