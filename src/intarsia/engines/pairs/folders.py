"""Instances of any folder: photos with mask pictures, and rendered scenes with their truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from intarsia.engines.pairs.errors import AnnotationsError
from intarsia.engines.pairs.instances import Instance, MaskFile
from intarsia.engines.pairs.run_lengths import mask_text
from intarsia.engines.quadruplets.reading import SUFFIXES
from intarsia.perception import HelperError, Truth, truth_path

_WHITE = 255


def read_folder(photos: Path, masks: Path, class_name: str | None = None) -> Iterator[Instance]:
    """The masks of each photo: ``NAME.png`` (white, or a label map: a thing for each value but 0), ``NAME-0.png``,
    ``NAME-1.png`` …, at the photo's path below ``masks``.

    Classes stand in ``NAME.json``: {"0": "mug", …} by number or label, or {"class": "mug"} for all of the photo; else
    ``class_name``; else they are unknown. Masks without a photo are faulty. Raises AnnotationsError.
    """
    if masks.resolve() == photos.resolve():
        raise AnnotationsError(f"{photos} holds photos and masks at once; put the masks into a folder of their own")
    files, own = _pictures(photos), _pictures(masks)
    stems = {_stem(path): path for path in files}
    for path in own:
        stem, number = _numbered(_stem(path), stems)
        labels = [None] if number is not None else _labels(masks / path)
        classes = _classes(masks / f"{stem}.json")
        for label in labels:
            name = number if number is not None else (str(label) if label is not None else "0")
            yield Instance(
                annotations="folder",
                pictures="folder",
                img_id=stem,
                ann_id=name,
                picture=stems.get(stem),
                class_name=classes.get(name, classes.get("class", class_name)),
                mask_file=MaskFile(path, label),
                fault=None if stem in stems else f"there is no photo {stem}",
            )


def read_tabletop(photos: Path) -> Iterator[Instance]:
    """The visible things of rendered scenes, by the truth beside each. Raises AnnotationsError."""
    found = False
    for path in _pictures(photos):
        if not truth_path(photos / path).is_file():
            continue
        try:
            truth = Truth.load(photos / path)
        except HelperError as error:
            raise AnnotationsError(str(error)) from error
        found = True
        for number, thing in enumerate(truth.objects):
            yield Instance(
                annotations="tabletop",
                pictures="tabletop",
                img_id=_stem(path),
                ann_id=str(number),
                picture=path,
                class_name=thing.nouns[0],
                runs=mask_text(thing.mask),
                box=thing.box,
            )
    if not found:
        raise AnnotationsError(f"{photos} has no truth beside its pictures; render some with intarsia data tabletop")


def has_truth(photos: Path) -> bool:
    """Whether any picture has its truth beside it."""
    return photos.is_dir() and any(truth_path(photos / path).is_file() for path in _pictures(photos))


def _pictures(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise AnnotationsError(f"{folder} is not a folder; name one")
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def _stem(path: str) -> str:
    return path.rpartition(".")[0]


def _numbered(stem: str, photos: dict[str, str]) -> tuple[str, str | None]:
    """("NAME", "0") of "NAME-0", unless there is a photo "NAME-0"."""
    name, dash, number = stem.rpartition("-")
    return (name, number) if dash and number.isdigit() and stem not in photos else (stem, None)


def _labels(path: Path) -> list[int | None]:
    """The values of a label map; [None] for a mask of black and white, or for what the step that reads will refuse."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P", "I", "I;16"):
                return [None]
            values = [int(value) for value in np.unique(np.array(image))]
    except (OSError, ValueError):
        return [None]
    others = [value for value in values if value]
    # What has softened edges from black to white is a mask, not a map of a hundred things.
    return [*others] if others and _WHITE not in others else [None]


def _classes(path: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise AnnotationsError(f'the classes {path} cannot be read ({error}): give JSON such as {{"0": "mug"}}') from (
            error
        )
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise AnnotationsError(f'the classes {path} are malformed: give JSON such as {{"0": "mug"}}')
    return {str(name): " ".join(value.lower().split()) for name, value in content.items()}
