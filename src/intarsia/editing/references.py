"""Reference photos: which things of which pictures are meant. Nothing here needs torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from intarsia.editing.errors import InputChangedError, ReferencePhotoError
from intarsia.editing.pictures import (
    FloatArray,
    MaskLike,
    SceneLike,
    as_mask,
    as_picture,
    mask_sha256,
    seen_by_model,
)
from intarsia.errors import EmptyMaskError, IntarsiaWarning, MaskError, PictureError
from intarsia.imaging import Mask, Picture
from intarsia.perception import estimate_mask
from intarsia.result import EditResult

ReferencesLike = SceneLike | Sequence[SceneLike]
ReferenceMasksLike = MaskLike | Sequence[MaskLike | None]
MaskOrigin = Literal["given", "alpha", "estimated"]


@dataclass(frozen=True, eq=False)
class Reference:
    """One photo, and the mask of the thing in it that is meant (True)."""

    picture: Picture
    mask: Mask
    origin: MaskOrigin

    @property
    def rgb(self) -> FloatArray:
        """Colours (H, W, 3) in [0, 1]; transparent pixels are laid on white."""
        return seen_by_model(self.picture)


def load_references(
    photos: ReferencesLike | None, masks: ReferenceMasksLike | None, scene: Picture
) -> tuple[Reference, ...]:
    """The references given for a scene. The mask of each: given (white = the thing), else the photo's
    transparency, else guessed, with a warning.

    Raises:
        PictureError, MaskError: a file that cannot be used; an empty cut-out. ReferencePhotoError: the scene itself
        with no mask, or more masks than photos.
    """
    given = () if photos is None else _as_sequence(photos)
    found = () if masks is None else _as_sequence(masks)
    if len(found) > len(given):
        raise ReferencePhotoError(
            f"there are {len(found)} reference masks for {len(given)} references: give at most one mask each"
        )
    padded = [*found, *[None] * (len(given) - len(found))]
    references = tuple(_load(photo, mask, scene) for photo, mask in zip(given, padded, strict=True))
    guessed = [_name(photo) for photo, made in zip(given, references, strict=True) if made.origin == "estimated"]
    if guessed:
        warnings.warn(
            f"no mask for {', '.join(guessed)}: the outline of what is meant is guessed; a reference mask "
            "(white = the thing) makes it better",
            IntarsiaWarning,
            stacklevel=2,
        )
    return references


def paths_of(given: object) -> tuple[str | None, ...]:
    """The paths of what was given, None for what came from memory."""
    found = () if given is None else _as_sequence(given)
    return tuple(str(one) if isinstance(one, (str, Path)) else None for one in found)


def check_hashes(
    references: Sequence[Reference], photos: Sequence[str], pictures: Sequence[str], masks: Sequence[str]
) -> None:
    """`InputChangedError` where the references are not those whose hashes a request holds (empty: any)."""
    for index, reference in enumerate(references):
        name = photos[index] if index < len(photos) else f"number {index + 1}"
        if pictures and reference.picture.sha256 != pictures[index]:
            raise InputChangedError(
                f"{name} is not the reference of this request (sha256 {reference.picture.sha256[:12]}…, not "
                f"{pictures[index][:12]}…): give the original file"
            )
        if masks and (found := mask_sha256(reference.mask)) != masks[index]:
            raise InputChangedError(
                f"the mask of the reference {name} is not that of this request (sha256 {found[:12]}…, not "
                f"{masks[index][:12]}…): give the original mask as a file"
            )


def _load(photo: SceneLike, given: MaskLike | None, scene: Picture) -> Reference:
    name = _name(photo)
    try:
        picture = as_picture(photo)
    except PictureError as error:
        raise type(error)(f"the reference {name} cannot be used: {error}") from error
    mask, origin = _mask_of(name, picture, given)
    if not mask.array.any():
        raise EmptyMaskError(
            f"the cut-out of the reference {name} is empty: mark the thing white in a mask, or opaque in the photo"
        )
    if origin == "estimated" and picture.sha256 == scene.sha256:
        raise ReferencePhotoError(
            f"the reference {name} is the scene itself: give another photo, or a reference mask that says which "
            "part of it is meant"
        )
    return Reference(picture, mask, origin)


def _mask_of(name: str, picture: Picture, given: MaskLike | None) -> tuple[Mask, MaskOrigin]:
    if given is not None:
        try:
            return as_mask(given, picture.size), "given"
        except (MaskError, PictureError) as error:
            raise type(error)(f"the mask of the reference {name} cannot be used: {error}") from error
    if picture.has_alpha and (picture.alpha() <= 0.5).any():
        return Mask(picture.alpha() > 0.5), "alpha"
    return Mask(estimate_mask(picture.rgb())), "estimated"


def _as_sequence(given: Any) -> tuple[Any, ...]:
    """What was given, as several; arrays and everything else that is one thing count as one."""
    return tuple(given) if isinstance(given, (list, tuple)) else (given,)


def _name(photo: object) -> str:
    if isinstance(photo, (str, Path)):
        return str(photo)
    if isinstance(photo, EditResult):
        return "result"
    return str(getattr(photo, "filename", "") or "picture") if isinstance(photo, Image.Image) else "picture"
