"""The photos of a subject, each with the subject's silhouette."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from intarsia.errors import EmptyMaskError, FullMaskError, IntarsiaWarning, MaskSizeError
from intarsia.imaging import Mask, Picture
from intarsia.learning.boxes import BoxText, box_in, boxes_found, boxes_given
from intarsia.learning.errors import PhotosError
from intarsia.perception import CutOrigin, CutOutError, GuessCutter, SubjectCutter

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
MaskOrigin = Literal["file", "alpha"] | CutOrigin

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif"})
_MASK_ENDINGS = ("-mask", "_mask")
_PLAIN = np.float32(0.75)
"""What stands behind a subject that was cut out (transparent background)."""


@dataclass(frozen=True, eq=False)
class Photo:
    """`rgb` float32 (H, W, 3) in [0, 1] and `mask` bool (H, W), True on the subject; `sha256` covers both."""

    name: str
    rgb: FloatArray
    mask: BoolArray
    sha256: str
    mask_origin: MaskOrigin = "file"


@dataclass(frozen=True, eq=False)
class Photos:
    """At least one photo of one subject. One is enough to work with, and warned about."""

    items: tuple[Photo, ...]

    def __post_init__(self) -> None:
        if not self.items:
            raise PhotosError("no photos were given: three to six of the subject from several sides work best")
        if len(self.items) == 1:
            warnings.warn(
                f"there is only one photo ({self.items[0].name}): it will look alike from all sides; "
                "three to six photos work best",
                IntarsiaWarning,
                stacklevel=3,
            )

    def __len__(self) -> int:
        return len(self.items)

    @property
    def hashes(self) -> tuple[str, ...]:
        """sha256 of each photo's upright pixels and mask."""
        return tuple(photo.sha256 for photo in self.items)

    @classmethod
    def load(
        cls,
        folder_or_paths: str | Path | Sequence[str | Path],
        masks: str | Path | Sequence[str | Path] | None = None,
        *,
        cutter: SubjectCutter | None = None,
        class_noun: str = "",
        boxes: str | Path | Mapping[str, BoxText] | None = None,
    ) -> Photos:
        """Load a folder (or its subfolder `images`), one file, or several files.

        A mask (white = subject) is looked for in `masks` (a folder with files of the same names, or as many
        paths as photos), else in the folder `masks` beside the photo or beside its folder, else as
        `NAME-mask.png`. Without one, a photo with transparent parts is its own mask; else the subject, a
        `class_noun`, is cut out by `cutter` (by default guessed: `estimate_mask`). A cutter is told roughly
        where it is by `boxes` (x,y,w,h in the upright photo's pixels): a file or mapping of photo names, or,
        looked for only then, the file `boxes.yaml` or `boxes.json` beside the photos or beside their folder.
        A guess is warned about, and GrabCut without a box.

        Raises:
            PhotosError: no such folder, no pictures in it, another number of masks than of photos, a
                subject that is not found, or boxes that cannot be used.
            PictureError: a file that cannot be read. MaskError: empty, all white, or of another size.
        """
        paths = _paths(folder_or_paths)
        found = _masks(paths, masks)
        given = None if boxes is None else boxes_given(paths, boxes)
        cut = _Cut(GuessCutter() if cutter is None else cutter, class_noun, tuple(paths), given)
        items = tuple(_load(path, mask, cut) for path, mask in zip(paths, found, strict=True))
        rough = {
            path: photo.name
            for photo, path in zip(items, paths, strict=True)
            if photo.mask_origin == "estimated" or (photo.mask_origin == "grabcut" and path not in cut.boxes)
        }
        if rough:
            more = "GrabCut with these boxes" if all(path in cut.boxes for path in rough) else "boxes with GrabCut"
            warnings.warn(
                f"no masks for {', '.join(rough.values())}: the subject's outline is guessed roughly; masks "
                f"(white = subject) in a folder named masks, or {more}, make it better",
                IntarsiaWarning,
                stacklevel=2,
            )
        return cls(items)

    @classmethod
    def from_arrays(cls, images: Sequence[FloatArray], masks: Sequence[BoolArray]) -> Photos:
        """Photos in memory: images (H, W, 3) in [0, 1] and masks (H, W), True on the subject."""
        if len(images) != len(masks):
            raise PhotosError(f"{len(images)} photos but {len(masks)} masks: give one mask per photo")
        return cls(
            tuple(
                _photo(f"photo {index + 1}", np.asarray(image, np.float32), Mask.from_array(mask), "file")
                for index, (image, mask) in enumerate(zip(images, masks, strict=True))
            )
        )


@dataclass(frozen=True)
class _Cut:
    """How photos without masks are cut out."""

    cutter: SubjectCutter
    class_noun: str
    paths: tuple[Path, ...]
    given: Mapping[Path, BoxText] | None

    @cached_property
    def boxes(self) -> Mapping[Path, BoxText]:
        """Those given, else what is found when the first photo is cut out."""
        return boxes_found(self.paths) if self.given is None else self.given

    def __call__(self, path: Path, rgb: FloatArray) -> Mask:
        try:
            box = box_in(path, self.boxes[path], rgb) if path in self.boxes else None
            return Mask(self.cutter.cut(rgb, self.class_noun, box))
        except CutOutError as error:
            raise PhotosError(f"photo {path}: {error}") from error


def _paths(given: str | Path | Sequence[str | Path]) -> list[Path]:
    if not isinstance(given, (str, Path)):
        return [Path(path) for path in given]
    folder = Path(given)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise PhotosError(f"{folder} does not exist: give a folder of photos of the subject")
    for place in (folder, folder / "images"):
        if place.is_dir() and (pictures := sorted(path for path in place.iterdir() if _is_photo(path))):
            return pictures
    raise PhotosError(f"the folder {folder} holds no pictures ({', '.join(sorted(SUFFIXES))}): put photos there")


def _is_photo(path: Path) -> bool:
    return (
        path.is_file()
        and path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and not path.stem.lower().endswith(_MASK_ENDINGS)
    )


def _masks(paths: Sequence[Path], masks: str | Path | Sequence[str | Path] | None) -> list[Path | None]:
    if masks is not None and not isinstance(masks, (str, Path)):
        given = [Path(path) for path in masks]
        if len(given) != len(paths):
            raise PhotosError(f"{len(paths)} photos but {len(given)} masks: give one mask per photo")
        return [*given]
    if masks is not None and Path(masks).is_file() and len(paths) == 1:
        return [Path(masks)]
    if masks is not None and not Path(masks).is_dir():
        raise PhotosError(f"{masks} is no folder of masks: give a folder with one mask per photo, of the same name")
    return [_mask_of(path, None if masks is None else Path(masks)) for path in paths]


def _mask_of(path: Path, folder: Path | None) -> Path | None:
    beside_photo = [path.parent / "masks", path.parent.parent / "masks", path.parent]
    places = beside_photo if folder is None else [folder]
    for place in places:
        beside = place == path.parent
        stems = [path.stem + ending for ending in _MASK_ENDINGS] + ([] if beside else [path.stem])
        for stem in stems:
            for suffix in (".png", *sorted(SUFFIXES - {".png"})):
                if (candidate := place / f"{stem}{suffix}").is_file():
                    return candidate
    return None


def _load(path: Path, mask_path: Path | None, cut: _Cut) -> Photo:
    picture = Picture.load(path)
    rgb = picture.rgb()
    if mask_path is not None:
        try:
            mask = Mask.load(mask_path, like=picture.size)
        except MaskSizeError as error:
            raise MaskSizeError(f"photo {path}: {error}") from error
        return _photo(path.name, _on_plain(rgb, picture.alpha()), mask, "file", str(mask_path))
    alpha = picture.alpha()
    if picture.has_alpha and (alpha <= 0.5).any():
        return _photo(path.name, _on_plain(rgb, alpha), Mask(alpha > 0.5), "alpha", str(path))
    return _photo(path.name, rgb, cut(path, rgb), cut.cutter.origin, str(path))


def _on_plain(rgb: FloatArray, alpha: FloatArray) -> FloatArray:
    """The colours over a plain light grey where the photo is transparent."""
    share = alpha[..., None]
    return np.asarray(rgb * share + _PLAIN * (1 - share), np.float32)


def _photo(name: str, rgb: FloatArray, mask: Mask, origin: MaskOrigin, source: str = "") -> Photo:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.shape[:2] != mask.size:
        raise PhotosError(f"{name} has shape {rgb.shape} and its mask {mask.size}: give (H, W, 3) and (H, W)")
    if not mask.share:
        raise EmptyMaskError(
            f"the mask {source or name} is empty: mark the subject white (white = subject), or leave it out"
        )
    if origin == "file" and mask.array.all():
        raise FullMaskError(f"the mask {source or name} is all white: mark only the subject white")
    mask.validate(allow_full=origin != "file")
    digest = hashlib.sha256(f"{rgb.shape}\n".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    digest.update(np.packbits(mask.array).data)
    return Photo(name, rgb, mask.array, digest.hexdigest(), origin)
