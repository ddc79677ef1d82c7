"""From Pillow's pixel modes to the four native layouts: grey, grey + alpha, RGB, RGBA, at 8 or 16 bits."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from intarsia.errors import IntarsiaWarning, UnsupportedPixelsError
from intarsia.imaging.arrays import Pixels


def deep_pixels(image: Image.Image, reopen: Callable[[], Any]) -> NDArray[np.uint16] | None:
    """Pixels (H, W, C) of a 16-bit colour PNG, of which Pillow by itself keeps only the high bytes.

    Pillow's unpackers for little-endian samples take the second byte of each pair, which in PNG's
    big-endian samples is the low one: so a second pass with the other unpacker reads what the first leaves
    out.
    """
    tile = getattr(image, "tile", None)
    rawmode = tile[0].args if tile else None
    if image.format != "PNG" or rawmode not in {"RGB;16B", "RGBA;16B", "LA;16B"}:
        bits = getattr(image, "tag_v2", {}).get(258, (8,))
        if image.mode in {"RGB", "RGBA", "LA"} and max(bits) > 8:
            warnings.warn("16-bit colour in this format is read at 8 bits", IntarsiaWarning, stacklevel=4)
        return None
    with reopen() as second:
        other = "RGBA" if rawmode == "LA;16B" else rawmode.replace("16B", "16L")
        second.tile = [second.tile[0]._replace(args=other)]
        low = np.asarray(second, np.uint16)
    high = np.asarray(image, np.uint16)
    if rawmode == "LA;16B":  # read as RGBA, the four bytes are grey high, grey low, alpha high, alpha low
        return low[..., 0::2] * 256 + low[..., 1::2]
    pixels = high * 256 + low
    key = image.info.get("transparency")
    if key is None or rawmode != "RGB;16B":
        return pixels
    alpha = np.where((pixels == np.asarray(key, np.uint16)).all(axis=-1, keepdims=True), 0, 65535)
    return np.concatenate([pixels, alpha.astype(np.uint16)], axis=-1)


def native_pixels(image: Image.Image, icc_profile: bytes | None) -> tuple[Pixels, bytes | None]:
    """Pixels (H, W, C) of a loaded image, and the colour profile that still fits them."""
    mode, transparent = image.mode, "transparency" in image.info
    if mode.startswith("I"):
        return _grey16(image), icc_profile
    if mode in {"1", "L"}:
        if transparent:
            return np.asarray(image.convert("LA")), icc_profile
        return np.asarray(image.convert("L"))[..., None], icc_profile
    if mode in {"LA", "RGB", "RGBA"} and not (mode == "RGB" and transparent):
        return np.asarray(image), icc_profile
    if mode == "La":
        return np.asarray(image.convert("LA")), icc_profile
    if mode in {"P", "PA", "RGB", "RGBa"}:
        return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB")), icc_profile
    if mode in {"RGBX", "YCbCr", "HSV"}:
        return np.asarray(image.convert("RGB")), icc_profile
    if mode == "CMYK":
        return np.asarray(_from_ink(image, icc_profile)), None  # an ink profile does not fit RGB pixels
    if mode == "LAB":
        return np.asarray(image.convert("RGB")), None
    raise UnsupportedPixelsError(
        f"pixels of kind {mode} cannot be edited; convert the file to 8- or 16-bit PNG"
    )


def _grey16(image: Image.Image) -> NDArray[np.uint16]:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise UnsupportedPixelsError(
            f"grey values run from {values.min()} to {values.max()}, "
            "beyond 16 bits; convert the file to 16-bit PNG"
        )
    grey = values.astype(np.uint16)[..., None]
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return grey
    return np.concatenate([grey, np.where(grey == key, 0, 65535).astype(np.uint16)], axis=-1)


def _from_ink(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    if icc_profile:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            converted = ImageCms.profileToProfile(
                image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            warnings.warn(
                "the CMYK colour profile cannot be used; colours are approximate",
                IntarsiaWarning,
                stacklevel=5,
            )
        else:
            if converted is not None:
                return converted
    return image.convert("RGB")
