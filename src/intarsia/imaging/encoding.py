"""From native pixels to the bytes of a PNG, JPEG, WebP or TIFF file."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from intarsia.errors import IntarsiaWarning, OutputFormatError
from intarsia.imaging.arrays import Pixels, describe
from intarsia.imaging.png import check_text, encode_deep_png

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
_LARGEST_SIDE = {"PNG": 2**31 - 1, "JPEG": 65500, "WEBP": 16383, "TIFF": 2**31 - 1}
_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
_EXIF_PREFIX = b"Exif\0\0"


def encode(
    pixels: Pixels,
    path: Path,
    icc_profile: bytes | None,
    dpi: tuple[float, float] | None,
    exif: bytes | None,
    text: dict[str, str],
) -> bytes:
    """The file's bytes in the format that the suffix of `path` names; warns where the format must lose
    something.

    Raises `OutputFormatError` for another suffix or a picture too large for the format, `OutputError` for
    text that cannot be encoded.
    """
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        raise OutputFormatError(f"cannot write {path}: its suffix must be one of {', '.join(_FORMATS)}")
    height, width, channels = pixels.shape
    if max(height, width) > _LARGEST_SIDE[form]:
        raise OutputFormatError(
            f"cannot write {path}: {describe((height, width))} is more than {form} can hold "
            f"({_LARGEST_SIDE[form]} px a side); use .png"
        )
    check_text(text)
    if text and form != "PNG":
        _warn(f"{path.name}: the recipe is kept in PNG files only; it is not in this one")
    if pixels.dtype == np.uint16 and channels > 1 and form == "PNG":
        block = exif.removeprefix(_EXIF_PREFIX) if exif else None
        return encode_deep_png(
            pixels.astype(np.uint16), icc_profile=icc_profile, dpi=dpi, exif=block, text=text
        )
    image = _image(_fit(pixels, form, path))
    options = dict(_OPTIONS[form])
    if form == "PNG":
        info = PngInfo()
        for key, value in text.items():
            info.add_itxt(key, value)
        options["pnginfo"] = info
    if dpi and form != "WEBP":
        options["dpi"] = dpi
    if exif:
        options["exif"] = exif
    buffer = io.BytesIO()
    try:
        image.save(buffer, form, icc_profile=icc_profile, **options)
    except (OSError, ValueError) as error:
        raise OutputFormatError(f"cannot write {path} as {form}: {error}; use .png") from error
    return buffer.getvalue()


def _fit(pixels: Pixels, form: str, path: Path) -> NDArray[Any]:
    """Pixels that the format can hold."""
    channels = pixels.shape[2]
    if pixels.dtype == np.uint16 and not (channels == 1 and form in {"PNG", "TIFF"}):
        _warn(f"{path.name}: 16-bit samples are reduced to 8 bits in {form}; use .png to keep them")
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if form == "JPEG":
        _warn(f"{path.name}: JPEG changes pixels outside the mask a little; .png, .webp and .tif keep them")
        if channels in (2, 4):
            _warn(f"{path.name}: JPEG has no transparency; the picture is laid on white")
            alpha = pixels[..., -1:].astype(np.uint32)
            over_white = pixels[..., :-1] * alpha + 255 * (255 - alpha)
            pixels = ((over_white + 127) // 255).astype(np.uint8)
    return pixels


def _image(pixels: NDArray[Any]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def _warn(message: str) -> None:
    warnings.warn(message, IntarsiaWarning, stacklevel=5)
