"""Photos of subjects as DreamBooth lays them out, a folder for each subject, and their copies in a benchmark."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from intarsia.errors import PictureError
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Shot, file_sha256
from intarsia.evaluation.bench.picture_files import ORIENTATION, png_bytes
from intarsia.evaluation.bench.tally import Tally
from intarsia.imaging import Picture

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
_MASK_ENDINGS = ("-mask", "_mask")
_PHOTO_FOLDERS, _MASK_FOLDERS = ("images", "image"), ("masks", "mask")


@dataclass(frozen=True)
class SubjectFolder:
    """``photos``: each with the file of its mask (white = subject), if there is one."""

    name: str
    photos: tuple[tuple[Path, Path | None], ...]


def find_subjects(
    root: Path, masks: Path | None = None, names: Sequence[str] | None = None
) -> tuple[list[SubjectFolder], list[str]]:
    """The folders ROOT/SUBJECT with photos, by name, and the names of those without any.

    Photos lie in the folder itself or in its folder `images` or `image`; masks, of the same names, in MASKS/SUBJECT (or
    a folder `masks` or `mask` there), else in the subject's folder `masks` or `mask`, else beside the photo as
    `NAME-mask.png`. ``names``: only these, in this order.

    Raises:
        BenchError: no such folder, no subject in it, or none of a name asked for.
    """
    for place in (root, masks):
        if place is not None and not place.is_dir():
            raise BenchError(f"there is no folder {place}: give one that holds a folder for each subject")
    found = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if unknown := [name for name in names or () if name not in found]:
        raise BenchError(f"{root} has no folder {unknown[0]!r}: use {', '.join(found) or 'another folder'}")
    # A subject named twice is one subject.
    subjects = [_subject(root / name, masks) for name in (found if names is None else dict.fromkeys(names))]
    full = [subject for subject in subjects if subject.photos]
    if not full:
        raise BenchError(f"{root} holds no folder with photos: give one that holds a folder of photos for each subject")
    return full, [subject.name for subject in subjects if not subject.photos]


def copy_photos(subject: SubjectFolder, folder: Path, left_out: Tally) -> tuple[Shot, ...]:
    """Photos and masks into `subjects/NAME/images` and `…/masks` of ``folder``; what cannot be used is told.

    A mask fits the upright photo; one that fits the photo as it is stored is turned with it.
    """
    home = Path("subjects") / subject.name
    for name in ("images", "masks"):
        (folder / home / name).mkdir(parents=True, exist_ok=True)
    stems = Counter(photo.stem for photo, _ in subject.photos)
    shots = []
    for photo, mask in subject.photos:
        try:
            size = Picture.load(photo).size
        except PictureError:
            left_out.add("photo that cannot be read", f"{subject.name}/{photo.name}")
            continue
        image = home / "images" / photo.name
        link_or_copy(photo, folder / image)
        shot = Shot(image.as_posix(), file_sha256(folder / image))
        data = None
        if mask is not None:
            try:
                data = _fitting(mask, photo, size)
            except _UnfitMask as error:
                left_out.add(f"mask of a photo {error}", f"{subject.name}/{photo.name}: {mask.name}")
        if data is not None:
            target = home / "masks" / f"{photo.stem if stems[photo.stem] == 1 else photo.name}.png"
            (folder / target).write_bytes(data)
            shot = Shot(shot.image, shot.image_sha256, target.as_posix(), file_sha256(folder / target))
        shots.append(shot)
    return tuple(shots)


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system can, else a copy."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _subject(folder: Path, masks: Path | None) -> SubjectFolder:
    for place in (folder, *(folder / name for name in _PHOTO_FOLDERS)):
        if photos := sorted(path for path in place.iterdir() if _is_photo(path)) if place.is_dir() else []:
            break
    given = () if masks is None else (masks / folder.name, *(masks / folder.name / name for name in _MASK_FOLDERS))
    places = (*given, *(folder / name for name in _MASK_FOLDERS))
    return SubjectFolder(folder.name, tuple((photo, _mask_of(photo, places)) for photo in photos))


def _is_photo(path: Path) -> bool:
    named = path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    return named and not path.stem.lower().endswith(_MASK_ENDINGS) and path.is_file()


def _mask_of(photo: Path, places: Sequence[Path]) -> Path | None:
    suffixes = (".png", *sorted(_SUFFIXES - {".png"}))
    candidates = [place / f"{photo.stem}{suffix}" for place in places for suffix in suffixes]
    candidates += [photo.with_name(f"{photo.stem}{ending}.png") for ending in _MASK_ENDINGS]
    return next((path for path in candidates if path.is_file()), None)


class _UnfitMask(ValueError):
    """Why a mask cannot be used."""


def _fitting(path: Path, photo: Path, size: tuple[int, int]) -> bytes:
    """The mask as a PNG, black and white, of the upright photo's ``size`` (height, width). Raises _UnfitMask."""
    try:
        picture = Picture.load(path)
    except PictureError as error:
        raise _UnfitMask("that cannot be read") from error
    mask = Image.fromarray(((picture.luma() > 0.5) * 255).astype("uint8"))
    if picture.size != size:
        with Image.open(photo) as stored:
            if stored.size == mask.size:
                mask.getexif()[ORIENTATION] = stored.getexif().get(ORIENTATION, 1)
                mask = ImageOps.exif_transpose(mask)
    if mask.size[::-1] != size:
        raise _UnfitMask("of another size")
    if mask.getextrema() != (0, 255):
        raise _UnfitMask("that is all one colour")
    return png_bytes(mask)
