"""Pictures and masks as the bytes that rows carry, and back; decoded ones are remembered for the next step."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from intarsia.perception import Box, Photo

Row = dict[str, Any]
Pixels = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
IMAGES = ("image.png", "image.jpg")


def png(array: NDArray[Any]) -> bytes:
    """PNG bytes of RGB(A) pixels, or of a mask (one bit a pixel)."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.where(array, np.uint8(255), np.uint8(0))).convert("1") if array.dtype == bool else None
    (image or Image.fromarray(np.ascontiguousarray(array))).save(buffer, "PNG")
    return buffer.getvalue()


@lru_cache(maxsize=4)
def rgb_of(data: bytes) -> Pixels:
    """Read-only RGB pixels (H, W, 3)."""
    pixels = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    pixels.flags.writeable = False
    return pixels


@lru_cache(maxsize=8)
def mask_of(data: bytes) -> BoolArray:
    """A read-only mask (H, W), True on white."""
    mask = np.array(Image.open(io.BytesIO(data)).convert("L")) > 127
    mask.flags.writeable = False
    return mask


def image_of(row: Row) -> bytes:
    """The scene's bytes."""
    data: bytes = next(row[name] for name in IMAGES if name in row)
    return data


def photo_of(row: Row) -> Photo:
    """The row's scene for helpers to look at."""
    return Photo(str(row["source"]), rgb_of(image_of(row)))


def box_text(box: Box) -> str:
    """ "x,y,w,h" """
    return ",".join(str(side) for side in box)


def box_of_text(text: str) -> Box:
    x, y, w, h = (int(side) for side in text.split(","))
    return x, y, w, h


def rounded(value: float | None) -> float | None:
    """Six decimals: tables stay readable, and equal where the last bit of a sum is not."""
    return None if value is None else round(float(value), 6)
