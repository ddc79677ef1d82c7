"""Pictures and masks as users give them: paths, Pillow images, arrays, results of other edits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from intarsia.editing.errors import SceneSizeError
from intarsia.errors import MaskError, MaskSizeError
from intarsia.imaging import Mask, MaskSource, Picture
from intarsia.result import EditResult

MINIMUM_SIDE = 8
MAXIMUM_ASPECT = 64

FloatArray = NDArray[np.float32]
SceneLike = str | Path | Picture | Image.Image | EditResult
Box = str | tuple[int, int, int, int]
MaskLike = str | Path | Mask | Image.Image | NDArray[np.bool_] | NDArray[np.uint8]


def as_picture(given: SceneLike) -> Picture:
    """A picture from a path, a Pillow image, a `Picture`, or the result of another edit."""
    if isinstance(given, Picture):
        return given
    if isinstance(given, EditResult):
        return given.picture
    return Picture.from_image(given) if isinstance(given, Image.Image) else Picture.load(given)


def load_scene(scene: SceneLike) -> Picture:
    """As `as_picture`; `SceneSizeError` if no model could paint in it."""
    picture = as_picture(scene)
    height, width = picture.size
    if min(height, width) < MINIMUM_SIDE:
        raise SceneSizeError(
            f"the scene is {width}x{height} px; both sides must be at least {MINIMUM_SIDE} px: use a larger picture"
        )
    if max(height, width) > MAXIMUM_ASPECT * min(height, width):
        raise SceneSizeError(
            f"the scene is {width}x{height} px, longer than {MAXIMUM_ASPECT} to 1: crop the part to be edited"
        )
    return picture


def as_mask(mask: MaskLike, size: tuple[int, int], source: MaskSource = "white") -> Mask:
    """A mask for a picture of `size` (height, width) from a path, a box "x,y,w,h", a Pillow image (by `source`), an
    array or a `Mask`.

    Raises:
        MaskError: and its kinds: another size, a box outside the picture.
    """
    if isinstance(mask, str) and _is_box(mask):
        made = Mask.from_box(mask, size)
    elif isinstance(mask, (str, Path)):
        made = Mask.load(mask, like=size, source=source)
    elif isinstance(mask, Mask):
        made = mask
    elif isinstance(mask, Image.Image):
        made = _from_picture(Picture.from_image(mask), source)
    else:
        made = Mask.from_array(np.asarray(mask))
    if made.size != size:
        raise MaskSizeError(
            f"the mask is {made.size[1]}x{made.size[0]} px but the picture is {size[1]}x{size[0]} px; "
            "make the mask at the picture's size"
        )
    return made


def load_mask(mask: MaskLike, scene: Picture, source: MaskSource = "white") -> Mask:
    """The mask of a scene; as `as_mask`, and an error where it is empty or full."""
    return as_mask(mask, scene.size, source).validate()


def mask_sha256(mask: Mask) -> str:
    """Hex digest of size and bits."""
    digest = hashlib.sha256(f"{mask.size[0]} {mask.size[1]}\n".encode())
    digest.update(np.packbits(mask.array).tobytes())
    return digest.hexdigest()


def seen_by_model(picture: Picture) -> FloatArray:
    """The picture's colours (H, W, 3); transparent pixels are laid on white, as what they hide is void."""
    rgb = picture.rgb()
    if not picture.has_alpha:
        return rgb
    alpha = picture.alpha()[..., None]
    return (rgb * alpha + (1 - alpha)).astype(np.float32)


def box_text(given: Box | None) -> str | None:
    """A box as a request holds it: "x,y,w,h"."""
    return given if given is None or isinstance(given, str) else ",".join(str(value) for value in given)


def path_text(given: object) -> str | None:
    """The path of what was given, None where that is no path."""
    return str(given) if isinstance(given, (str, Path)) else None


def find(path: str, folder: Path | None) -> str:
    """The path as given, or in `folder` where only that exists."""
    if folder is not None and not Path(path).exists():
        for candidate in (folder / path, folder / Path(path).name):
            if candidate.exists():
                return str(candidate)
    return path


def _from_picture(picture: Picture, source: MaskSource) -> Mask:
    """By the rules of `Mask.load`."""
    if source == "alpha":
        if not picture.has_alpha:
            raise MaskError("the mask has no alpha channel; use white or black as its source")
        return Mask(np.rint(picture.alpha() * 255) <= 127)
    bright = np.rint(picture.luma() * 255) > 127
    return Mask(bright if source == "white" else ~bright)


def _is_box(text: str) -> bool:
    return text.count(",") >= 1 and not Path(text).exists()
