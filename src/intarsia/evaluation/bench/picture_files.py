"""Pictures as files: read as arrays, upright as their EXIF says, measured without decoding, written as plain PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Pixels = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
ORIENTATION = 0x0112
_LYING = (5, 6, 7, 8)
"""Orientations of EXIF that swap width and height (EXIF 2.3, tag 274)."""


def read_rgb(source: Any) -> Pixels:
    """A picture's file as (H, W, 3). Raises whatever Pillow does where it is none."""
    with Image.open(source) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)


def read_mask(source: Any) -> Bools:
    """(H, W), True where the file is white. Raises whatever Pillow does where it is no picture."""
    with Image.open(source) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("L"), np.uint8) > 127


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height); no pixel is decoded. Raises OSError: no picture."""
    with Image.open(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(ORIENTATION) in _LYING else (width, height)


def png_bytes(image: Image.Image) -> bytes:
    """A PNG of the pixels alone: no text, profile or time."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
