"""Instances of any folder: photos with mask pictures, and rendered scenes with their truth."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from intarsia.engines.pairs.errors import AnnotationsError, InstanceError
from intarsia.engines.pairs.instances import Instance, MaskFile
from intarsia.engines.pairs.mask_pictures import Shares, labels_of, open_mask, places_in
from intarsia.engines.pairs.run_lengths import mask_text
from intarsia.engines.quadruplets.reading import SUFFIXES
from intarsia.perception import Truth, truth_path


def read_folder(photos: Path, masks: Path, class_name: str | None = None) -> Iterator[Instance]:
    """The masks of each photo: ``NAME.png`` (white, or a label map: a thing for each value but 0, see `labels_of`),
    ``NAME-0.png``, ``NAME-1.png`` …, at the photo's path below ``masks``.

    Classes stand in ``NAME.json``: {"0": "mug", …} by number or label, or {"class": "mug"} for all of the photo; else
    ``class_name``; else they are unknown. Masks without a photo, or beside a broken ``NAME.json``, are faulty. Raises
    AnnotationsError.
    """
    if masks.resolve() == photos.resolve():
        raise AnnotationsError(f"{photos} holds photos and masks at once; put the masks into a folder of their own")
    files, own = _pictures(photos), _pictures(masks)
    stems = {_stem(path): path for path in files}
    unnamed = " ".join((class_name or "").split()) or None
    for path in own:
        stem, number = _numbered(_stem(path), stems)
        things = {None: None} if number is not None else _things(masks / path)
        classes, fault = _classes(masks, f"{stem}.json")
        for label, shares in things.items():
            name = number if number is not None else (str(label) if label is not None else "0")
            yield Instance(
                annotations="folder",
                pictures="folder",
                img_id=stem,
                ann_id=name,
                picture=stems.get(stem),
                class_name=classes.get(name, classes.get("class", unnamed)),
                mask_file=MaskFile(path, label),
                shares=shares,
                fault=fault if stem in stems else f"there is no photo {stem}",
            )


def read_tabletop(photos: Path) -> Iterator[Instance]:
    """The visible things of rendered scenes, by the truth beside each; a broken one is one faulty instance. Raises
    AnnotationsError."""
    found = False
    for path in _pictures(photos):
        if not truth_path(photos / path).is_file():
            continue
        found = True
        try:
            things = _rendered(photos, path)
        except Exception as error:  # anything can be in a file
            reason = str(error).replace(f"{photos}/", "")
            things = [_thing(path, "truth", class_name=None, fault=f"its truth cannot be used ({reason})")]
        yield from things
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


def _rendered(photos: Path, path: str) -> list[Instance]:
    return [
        _thing(path, str(number), class_name=thing.nouns[0], runs=mask_text(thing.mask), box=thing.box)
        for number, thing in enumerate(Truth.load(photos / path).objects)
    ]


def _thing(path: str, name: str, **values: Any) -> Instance:
    return Instance(
        annotations="tabletop", pictures="tabletop", img_id=_stem(path), ann_id=name, picture=path, **values
    )


def _things(path: Path) -> Mapping[int | None, Shares | None]:
    """Where which labels of a map are; {None: …} for a mask of black and white, or for what the step that reads will
    refuse."""
    try:
        mask = open_mask(path.read_bytes())
        return places_in(mask, labels_of(mask)) or {None: None}
    except (OSError, InstanceError):
        return {None: None}


def _classes(masks: Path, name: str) -> tuple[dict[str, str], str | None]:
    """The classes of a photo's masks, and what is wrong with the file."""
    try:
        content: Any = json.loads((masks / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        return {}, f'the classes {name} cannot be read ({reason}): give JSON such as {{"0": "mug"}}'
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        return {}, f'the classes {name} are malformed: give JSON such as {{"0": "mug"}}'
    return {str(key): " ".join(value.lower().split()) for key, value in content.items()}, None
