"""What listing learns of files without judging them: hashes, and where it takes little, sizes and places."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from intarsia.engines.pairs.errors import InstanceError
from intarsia.engines.pairs.mask_pictures import Shares, open_mask, places_in

_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)


@dataclass(frozen=True)
class Looked:
    """What listing learns of a file: SHA-256 of its bytes (None: it cannot be read); where asked for, a photo's upright
    ``size`` (height, width), and where a mask's white pixels are. Both are None for what is no picture."""

    sha256: str | None = None
    size: tuple[int, int] | None = None
    shares: Shares | None = None


def look_at_photo(path: Path, measure: bool) -> Looked:
    """Hash a photo, and with ``measure`` read its size off the header."""
    data = _bytes(path)
    if data is None:
        return Looked()
    return Looked(hashlib.sha256(data).hexdigest(), _size(data) if measure else None)


def look_at_mask(path: Path, locate: bool) -> Looked:
    """Hash a mask, and with ``locate`` decode it."""
    data = _bytes(path)
    if data is None:
        return Looked()
    shares = None
    if locate:
        with suppress(InstanceError):  # the step that reads says why
            shares = places_in(open_mask(data), []).get(None)
    return Looked(hashlib.sha256(data).hexdigest(), shares=shares)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None


def _size(data: bytes) -> tuple[int, int] | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            # Asked for the EXIF block, Pillow decodes a whole PNG, as it may stand at the end.
            plain = image.format == "PNG" and b"eXIf" not in data and b"Raw profile type exif" not in data
            turned = not plain and image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # the step that reads says what is wrong
        return None
