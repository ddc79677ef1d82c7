"""A folder of photos as rows, and the step that reads one."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, __version__

from intarsia.engines.errors import EngineError
from intarsia.engines.quadruplets.samples import Row, png
from intarsia.engines.runner.index import FileIndex
from intarsia.engines.runner.rows import safe_key
from intarsia.errors import PictureError
from intarsia.imaging import Picture

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif")
_INDEXED = ("file_sha256", "pixels_sha256")
_READER = f"upright pixels 1, Pillow {__version__}"


def list_photos(folder: Path, workers: int = 1, output: str | Path | None = None) -> list[Row]:
    """A row for each picture file below a folder, in the order of their paths: key, source (path below the folder),
    source_sha256 (of the file's bytes), and where an earlier file has the same upright pixels, ``duplicate_of`` (its
    key).

    All files are read for this, but none is judged: what cannot be decoded is left to the step that reads. What was
    found is kept beside ``output``, an engine's folder, so that the next call reads only files that have changed.
    Raises EngineError: no folder, or no picture in it; OutputError.
    """
    if not folder.is_dir():
        raise EngineError(f"{folder} is not a folder; name one that holds photos")
    paths = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if not paths:
        raise EngineError(f"{folder} holds no pictures; put files such as {', '.join(SUFFIXES[:3])} into it")
    index = None if output is None else FileIndex.beside(output, folder, _INDEXED, _READER)
    hashes: list[tuple[str | None, ...]] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        warnings.simplefilter("ignore")
        for found in pool.map(partial(_hashes, folder, index), paths):
            hashes.append(found)
            if index is not None:
                index.save(now=False)
    if index is not None:
        index.save()
    rows: list[Row] = []
    first: dict[str, str] = {}
    for path, (file_digest, digest) in zip(paths, hashes, strict=True):
        # A name that is no Unicode is written with escapes, which no file has: the step that reads turns it away.
        source = os.fsencode(path).decode("utf-8", "backslashreplace")
        row: Row = {"key": safe_key(path), "source": source, "source_sha256": file_digest, "duplicate_of": None}
        if digest is not None and digest in first:
            row["duplicate_of"] = first[digest]
        elif digest is not None:
            first[digest] = row["key"]
        rows.append(row)
    return rows


def _hashes(folder: Path, index: FileIndex | None, path: str) -> tuple[str | None, ...]:
    """SHA-256 of the file and of its upright pixels; None for what cannot be read, and for the pixels of an animation:
    it is no photo that another one could repeat."""
    read = partial(_read_hashes, folder, path)
    return read() if index is None else index.read(path, read)


def _read_hashes(folder: Path, path: str) -> tuple[str | None, str | None]:
    try:
        data = (folder / path).read_bytes()
    except OSError:
        return None, None
    try:
        picture = Picture.load(folder / path)
        pixels = picture.sha256 if _frames(data) == 1 else None
    except Exception:  # decoders raise almost anything on hostile bytes; the step that reads says what is wrong
        pixels = None
    return hashlib.sha256(data).hexdigest(), pixels


def make_read(folder: Path, least_side: int) -> Callable[[Row], list[Row]]:
    """The step ``read``: see `read`."""
    return partial(read, folder=folder, least_side=least_side)


def read(row: Row, *, folder: Path, least_side: int) -> list[Row]:
    """Adds the upright RGB picture as ``image.png`` or ``image.jpg``, its width and height.

    The file's own bytes are kept where they are just that (an upright 8-bit RGB PNG or JPEG without colour profile);
    anything else (grey, palette, CMYK, 16 bits, EXIF orientation, another format) becomes a PNG. Rejected: duplicates,
    animations, transparent pictures, and those with a side below ``least_side``. Raises PictureError for what is no
    readable picture.
    """
    if row.get("duplicate_of") is not None:
        return [{**row, "rejected": "the same pixels as another file"}]
    path = folder / row["source"]
    if not path.is_file():
        raise PictureError(f"{row['source']} cannot be found: it was removed, or its name is not Unicode; rename it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = _without_folder(folder, path)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != row["source_sha256"]:
        raise EngineError(f"{row['source']} changed while the engine ran; start again with the folder at rest")
    row = {**row, "width": picture.size[1], "height": picture.size[0]}
    if _frames(data) > 1:
        return [{**row, "rejected": "animated"}]
    if min(picture.size) < least_side:
        return [{**row, "rejected": f"a side is below {least_side} px"}]
    if picture.has_alpha and float(picture.alpha().min()) < 1:
        return [{**row, "rejected": "transparent pixels"}]
    kept = _kept_suffix(data)
    if kept is not None:
        return [{**row, f"image.{kept}": data}]
    pixels = np.rint(picture.rgb() * 255).astype(np.uint8)
    return [{**row, "image.png": png(pixels)}]


def _without_folder(folder: Path, path: Path) -> Picture:
    """Messages name the file below the folder: what is written must not depend on where the folder is."""
    try:
        return Picture.load(path)
    except PictureError as error:
        raise type(error)(str(error).replace(f"{folder.as_posix()}/", "")) from error


def _frames(data: bytes) -> int:
    with Image.open(io.BytesIO(data)) as image:
        # Cameras put previews behind a JPEG (MPO); these are no animation.
        return 1 if image.format in ("JPEG", "MPO") else int(getattr(image, "n_frames", 1))


def _kept_suffix(data: bytes) -> str | None:
    with Image.open(io.BytesIO(data)) as image:
        plain = image.mode == "RGB" and image.getexif().get(0x0112, 1) == 1 and not image.info.get("icc_profile")
        if not plain or (image.format == "PNG" and data[24:25] != b"\x08"):
            return None
        return {"PNG": "png", "JPEG": "jpg"}.get(image.format or "")
