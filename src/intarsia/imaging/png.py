"""What Pillow does not do with PNG: writing 16-bit colour, and reading the text without decoding the pixels.

Source of the format: W3C, Portable Network Graphics (PNG) Specification, third edition.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from intarsia.errors import MissingFileError, NotAnImageError, OutputError, UnreadableImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
_TEXT_CHUNKS = {b"tEXt", b"zTXt", b"iTXt"}
_MAX_TEXT = 64 * 1024 * 1024
_METRES_PER_INCH = 0.0254


def check_text(text: dict[str, str]) -> None:
    """Raise `OutputError` for a key or value that PNG cannot hold (keys: 1 to 79 Latin-1 characters)."""
    for key, value in text.items():
        try:
            length = len(key.encode("latin-1"))
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise OutputError(
                f"PNG text {key!r} cannot be encoded: {error.reason}; use plain text"
            ) from error
        if not 1 <= length <= 79 or "\0" in key:
            raise OutputError(f"PNG text key {key!r} must have 1 to 79 characters and no NUL; shorten it")


def encode_deep_png(
    pixels: NDArray[np.uint16],
    *,
    icc_profile: bytes | None,
    dpi: tuple[float, float] | None,
    exif: bytes | None,
    text: dict[str, str],
) -> bytes:
    """A 16-bit PNG of pixels (H, W, C), C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA; `exif` without its JPEG
    prefix."""
    height, width, channels = pixels.shape
    parts = [
        SIGNATURE,
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPE[channels], 0, 0, 0)),
    ]
    if icc_profile:
        parts.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile)))
    if dpi:
        per_metre = [round(value / _METRES_PER_INCH) for value in dpi]
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    for key, value in text.items():
        parts.append(_chunk(b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + value.encode("utf-8")))
    if exif:
        parts.append(_chunk(b"eXIf", exif))
    rows = np.ascontiguousarray(pixels.astype(">u2")).view(np.uint8).reshape(height, width * channels * 2)
    filtered = np.full(
        (height, rows.shape[1] + 1), 2, np.uint8
    )  # filter type 2, "Up": difference to the row above
    filtered[:, 1:] = rows
    filtered[1:, 1:] -= rows[:-1]
    parts.append(_chunk(b"IDAT", zlib.compress(filtered.tobytes(), 6)))
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def read_png_text(path: str | Path) -> dict[str, str]:
    """All text of a PNG file by key, before or after the pixels, which are not decoded.

    Raises `MissingFileError`, `NotAnImageError` (no PNG) or `UnreadableImageError` (cut short, wrong
    checksum).
    """
    try:
        with open(path, "rb") as file:
            if file.read(len(SIGNATURE)) != SIGNATURE:
                raise NotAnImageError(f"{path} is not a PNG file; only PNG files carry text")
            return dict(_parse_text(kind, data) for kind, data in _text_chunks(file))
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} does not exist; check the path") from error
    except OSError as error:
        raise UnreadableImageError(f"{path} cannot be read: {error.strerror}; check the file") from error
    except (struct.error, zlib.error, UnicodeDecodeError, EOFError) as error:
        raise UnreadableImageError(f"{path} is a damaged PNG: {error}; use an intact copy") from error


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _text_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while True:
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"IEND":
            return
        if kind not in _TEXT_CHUNKS:
            file.seek(length + 4, 1)
            continue
        if length > _MAX_TEXT:
            raise EOFError(f"a text chunk claims {length} bytes")
        data = file.read(length)
        if file.read(4) != struct.pack(">I", zlib.crc32(kind + data)):
            raise EOFError("the checksum of a text chunk is wrong")
        yield kind, data


def _parse_text(kind: bytes, data: bytes) -> tuple[str, str]:
    raw_key, _, rest = data.partition(b"\0")
    key = raw_key.decode("latin-1")
    if kind == b"tEXt":
        return key, rest.decode("latin-1")
    if kind == b"zTXt":
        return key, _inflate(rest[1:]).decode("latin-1")
    compressed, fields = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
    if len(fields) != 3:
        raise EOFError("an iTXt chunk is malformed")
    return key, (_inflate(fields[2]) if compressed else fields[2]).decode("utf-8")


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    result = inflater.decompress(data, _MAX_TEXT)
    if inflater.unconsumed_tail or not inflater.eof:
        raise EOFError("compressed text is cut short or too long")
    return result
