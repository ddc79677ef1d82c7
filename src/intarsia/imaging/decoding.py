"""From a file to upright native pixels: what can be kept is kept, what cannot is refused or warned about."""

from __future__ import annotations

import math
import os
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from intarsia.errors import (
    IntarsiaWarning,
    MissingFileError,
    NotAnImageError,
    PictureError,
    TooLargeError,
    UnreadableImageError,
    ZeroSizeError,
)
from intarsia.imaging.arrays import Pixels, describe
from intarsia.imaging.native import deep_pixels, native_pixels
from intarsia.imaging.png import SIGNATURE

DEFAULT_MAX_PIXELS = 100_000_000
MAX_PIXELS_VARIABLE = "INTARSIA_MAX_PIXELS"

_ORIENTATION = 0x0112
# Tags that describe how a TIFF stores its pixels; they are wrong for any other file.
_STORAGE_TAGS = frozenset([*range(254, 260), 262, 266, 273, *range(277, 280), 282, 283, 284, 296, 317, 320])
_STORAGE_TAGS |= {
    *range(322, 326),
    330,
    332,
    338,
    339,
    347,
    *range(529, 533),
    700,
    33723,
    34377,
    34675,
    _ORIENTATION,
}
_open_lock = threading.Lock()


class Decoded(NamedTuple):
    """Upright pixels (H, W, C), uint8 or uint16, and the metadata that goes back into the output file."""

    pixels: Pixels
    icc_profile: bytes | None
    dpi: tuple[float, float] | None
    exif: bytes | None


def decode_file(path: str | Path, max_pixels: int | None) -> Decoded:
    """Read, check and decode a picture file; see `Picture.load` for what is raised."""
    limit = _limit(max_pixels)
    head = _head(Path(path))
    try:
        image = _open(path)
    except UnidentifiedImageError as error:
        if _declares_no_pixels(head):
            raise ZeroSizeError(
                f"{path} has no pixels (width or height is 0); use another picture"
            ) from error
        raise NotAnImageError(
            f"{path} is not an image that can be read; use PNG, JPEG, WebP or TIFF"
        ) from error
    except Exception as error:
        raise unreadable(path, error) from error
    with image:
        width, height = image.size
        if width * height > limit:
            raise TooLargeError(
                f"{path} is {describe((height, width))}, {width * height / 1e6:.0f} megapixels, "
                f"more than the limit of {limit / 1e6:g}; shrink it, or raise the limit with max_pixels="
                f"{width * height} or the environment variable {MAX_PIXELS_VARIABLE}={width * height}"
            )
        try:
            return decode_image(image, deep=deep_pixels(image, lambda: _open(path)))
        except PictureError as error:
            raise type(error)(f"{path}: {error}") from error
        except Exception as error:  # decoders raise almost anything on hostile bytes
            raise unreadable(path, error) from error


def decode_image(image: Image.Image, *, deep: NDArray[np.uint16] | None = None) -> Decoded:
    """Upright native pixels and metadata of an open Pillow image; `deep` replaces its pixels where given."""
    if 0 in image.size:
        raise ZeroSizeError("the picture has no pixels (width or height is 0); use another picture")
    if getattr(image, "n_frames", 1) > 1 and image.format in {"GIF", "PNG", "WEBP", "TIFF", "AVIF"}:
        warnings.warn("the file holds several frames; only the first is used", IntarsiaWarning, stacklevel=4)
    image.load()
    icc_profile = image.info.get("icc_profile") or None
    dpi = _dpi(image)
    orientation, exif = _exif(image)
    if deep is not None:
        pixels: Pixels = deep
    else:
        pixels, icc_profile = native_pixels(image, icc_profile)
    if orientation >= 5 and dpi:
        dpi = (dpi[1], dpi[0])
    return Decoded(upright(pixels, orientation), icc_profile, dpi, exif)


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels (H, W, C) turned as EXIF orientation 1 to 8 asks; other values count as 1."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _head(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "no ordinary file"
            raise MissingFileError(f"{path} is {kind}; name a picture file")
        with open(path, "rb") as file:
            head = file.read(32)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{path} does not exist; check the path") from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not head:
        raise ZeroSizeError(f"{path} is empty (0 bytes); use another picture")
    return head


def _limit(max_pixels: int | None) -> int:
    if max_pixels is not None:
        return max_pixels
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if text is None:
        return DEFAULT_MAX_PIXELS
    if not text.isdecimal():
        raise TooLargeError(f"{MAX_PIXELS_VARIABLE} is {text!r}; set it to a whole number of pixels")
    return int(text)


def _open(path: str | Path) -> Image.Image:
    """Header only. Pillow's own size limit is off meanwhile: ours is stricter and says how to raise it."""
    with _open_lock:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def unreadable(path: str | Path, error: Exception) -> UnreadableImageError:
    """What to raise for whatever a decoder or the file system raised."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UnreadableImageError(
        f"{path} is damaged, cut short or not readable ({reason}); use an intact copy"
    )


def _declares_no_pixels(head: bytes) -> bool:
    if head.startswith(SIGNATURE) and head[12:16] == b"IHDR":
        return head[16:20] == bytes(4) or head[20:24] == bytes(4)
    if head[:3] == b"GIF":
        return head[6:8] == bytes(2) or head[8:10] == bytes(2)
    return False


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (
        (across, down) if all(math.isfinite(value) and 1 <= value < 1e6 for value in (across, down)) else None
    )


def _exif(image: Image.Image) -> tuple[int, bytes | None]:
    """Orientation, and the EXIF block without it."""
    try:
        exif = image.getexif()
        orientation = exif.get(_ORIENTATION, 1)
        unwanted = _STORAGE_TAGS if image.format == "TIFF" else {_ORIENTATION}
        kept = Image.Exif()
        kept.load(exif.tobytes())
        for tag in unwanted & set(kept):
            del kept[tag]
        block = kept.tobytes() if len(kept) else None
    except Exception as error:  # broken metadata must not cost the picture
        warnings.warn(f"the EXIF data is damaged and left out ({error})", IntarsiaWarning, stacklevel=5)
        return 1, None
    return (orientation if isinstance(orientation, int) else 1), block
