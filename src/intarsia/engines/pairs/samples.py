"""Seeds of a row, and its pictures."""

from __future__ import annotations

import hashlib
import io

import numpy as np
from PIL import Image

from intarsia.engines.quadruplets.samples import (
    IMAGES,
    BoolArray,
    Pixels,
    Row,
    image_of,
    mask_of,
    photo_of,
    png,
    rgb_of,
    rounded,
)
from intarsia.perception import Box

__all__ = [
    "IMAGES",
    "BoolArray",
    "Pixels",
    "Row",
    "box_in",
    "draw_of",
    "encoded",
    "image_of",
    "jpeg",
    "mask_of",
    "photo_of",
    "png",
    "rgb_of",
    "rounded",
    "seed_of",
]


def seed_of(key: str, *parts: object) -> int:
    """63 bits of SHA-256 of a row's key and what the number is for: the same on any cluster."""
    text = "\0".join((key, *(str(part) for part in parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def draw_of(key: str, *parts: object) -> np.random.Generator:
    """The generator of one decision about a row."""
    return np.random.default_rng(seed_of(key, *parts))


def box_in(row: Row) -> Box:
    """The mask's tight box (x, y, w, h), which the first step wrote."""
    return int(row["x"]), int(row["y"]), int(row["w"]), int(row["h"])


def jpeg(rgb: Pixels, quality: int) -> bytes:
    """A JPEG without subsampled colours."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def encoded(rgb: Pixels, codec: str, quality: int) -> tuple[str, bytes]:
    """(suffix, bytes) of a picture."""
    return ("jpg", jpeg(rgb, quality)) if codec == "jpeg" else ("png", png(rgb))
