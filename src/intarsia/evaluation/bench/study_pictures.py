"""Pictures for a blind page: pixels only, and of one size in bytes where they are compared."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from intarsia.evaluation.bench.picture_files import png_bytes, read_mask
from intarsia.imaging import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

PHOTO_SIDE = 512
_END = 12
"""Bytes of a PNG's last chunk, IEND."""
_GREY = 0.5


def plain_image(path: Path) -> Image:
    """8-bit sRGB pixels of a file, upright, over mid-grey where it is transparent, and nothing else of it.

    Raises:
        PictureError: as `Picture.load`.
    """
    import numpy as np
    from PIL import Image, ImageCms

    picture = Picture.load(path)
    opacity = picture.alpha()[..., None]
    pixels = np.rint((picture.rgb() * opacity + _GREY * (1 - opacity)) * 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    if picture.icc_profile is not None:
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc_profile))
            converted = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"))
        except ImageCms.PyCMSError:  # a profile for grey or CMYK pixels says nothing about these
            converted = None
        image = image if converted is None else Image.fromarray(np.asarray(converted))
    return image


def photo_png(path: Path) -> bytes:
    """A subject's photo, made smaller where its longer side is above `PHOTO_SIDE`."""
    image = plain_image(path)
    image.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    return png_bytes(image)


def scene_png(scene: Path, mask: Path) -> bytes:
    """The scene with a white line between black ones along the inner border of the mask (white, above 127, is the
    mask)."""
    from PIL import Image, ImageChops, ImageFilter, ImageOps

    image = plain_image(scene)
    line = max(1, round(max(image.size) / 256))
    inside = Image.fromarray(read_mask(mask).astype("uint8") * 255)
    # The edge of the picture is a border too: everything beyond it is outside.
    steps = [ImageOps.expand(inside, border=3 * line, fill=0)]
    for _ in range(2):
        steps.append(steps[-1].filter(ImageFilter.MinFilter(2 * line + 1)))
    outer = steps[0].filter(ImageFilter.MaxFilter(2 * line + 1))
    for colour, more, less in (
        ("black", outer, steps[0]),
        ("white", steps[0], steps[1]),
        ("black", steps[1], steps[2]),
    ):
        image.paste(colour, mask=ImageOps.crop(ImageChops.subtract(more, less), 3 * line))
    return png_bytes(image)


def compared_pngs(paths: Sequence[Path]) -> list[bytes]:
    """The pictures that one question compares, all of the same number of bytes."""
    plain = [png_bytes(plain_image(path)) for path in paths]
    longest = max(map(len, plain))
    return [_padded(png, longest - len(png)) for png in plain]


def _padded(png: bytes, count: int) -> bytes:
    """With an ancillary private chunk of ``count`` zeros before the end (PNG specification, 4.7 and 5.4)."""
    body = b"fiLl" + bytes(count)
    chunk = struct.pack(">I", count) + body + struct.pack(">I", zlib.crc32(body))
    return png[:-_END] + chunk + png[-_END:]
