"""`Picture`: a loaded image, upright, at its native depth, with what belongs to it."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from intarsia.errors import (
    NonFiniteError,
    PictureError,
    SizeMismatchError,
    UnsupportedPixelsError,
    ZeroSizeError,
)
from intarsia.imaging.arrays import BoolArray, FloatArray, Pixels, Size, describe, frozen
from intarsia.imaging.decoding import Decoded, decode_file, decode_image, unreadable
from intarsia.imaging.encoding import encode
from intarsia.imaging.files import check_writable, write_file_atomically

# Rec. 601 luma of R'G'B', the weights of JPEG's and Pillow's grey.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright picture with native pixels (H, W, C), uint8 or uint16; C = 1 grey, 2 grey + alpha, 3 RGB,
    4 RGBA.

    The array is read-only. `exif` is the block without the orientation, which is already applied.
    """

    pixels: Pixels
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    exif: bytes | None = None

    def __post_init__(self) -> None:
        pixels = self.pixels
        if pixels.ndim != 3 or pixels.shape[2] not in _MODES or pixels.dtype not in (np.uint8, np.uint16):
            raise UnsupportedPixelsError(
                f"pixels of shape {pixels.shape} and type {pixels.dtype} are no picture; "
                "give uint8 or uint16 of shape (height, width, 1 to 4)"
            )
        if 0 in pixels.shape:
            raise ZeroSizeError(f"a picture of shape {pixels.shape} has no pixels; give at least 1x1")
        object.__setattr__(self, "pixels", frozen(pixels))

    @classmethod
    def load(cls, path: str | Path, max_pixels: int | None = None) -> Picture:
        """Load a file: EXIF orientation applied; palette, CMYK and 1-bit become RGB(A) or grey; 16 bits
        stay 16 bits.

        `max_pixels` (default 100 million, or the environment variable INTARSIA_MAX_PIXELS) is checked
        before decoding. Raises `MissingFileError`, `NotAnImageError`, `UnreadableImageError`,
        `ZeroSizeError`, `TooLargeError` or `UnsupportedPixelsError`, all `PictureError`.
        """
        return cls._of(decode_file(path, max_pixels))

    @classmethod
    def from_image(cls, image: Image.Image) -> Picture:
        """The picture of a Pillow image, by the rules of `load`; Pillow may still have to read its file."""
        try:
            return cls._of(decode_image(image))
        except PictureError:
            raise
        except Exception as error:  # decoders raise almost anything on hostile bytes
            raise unreadable("the Pillow image", error) from error

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> Picture:
        """A copy of uint8 or uint16 values of shape (H, W) or (H, W, 1 to 4), without metadata."""
        return cls(np.array(array[..., None] if array.ndim == 2 else array))

    @classmethod
    def _of(cls, decoded: Decoded) -> Picture:
        return cls(decoded.pixels, decoded.icc_profile, decoded.dpi, decoded.exif)

    @property
    def size(self) -> Size:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def mode(self) -> str:
        """`L`, `LA`, `RGB` or `RGBA`, followed by `;16` for 16-bit samples."""
        return _MODES[self.pixels.shape[2]] + (";16" if self.pixels.dtype == np.uint16 else "")

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.pixels.shape[2] in (2, 4)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of mode, size and upright pixels; metadata does not count, nor does the machine's byte
        order."""
        digest = hashlib.sha256(f"{self.mode} {self.size[0]} {self.size[1]}\n".encode())
        swap = self.pixels.dtype == np.uint16 and sys.byteorder == "big"
        digest.update((self.pixels.byteswap() if swap else self.pixels).data)
        return digest.hexdigest()

    def rgb(self) -> FloatArray:
        """A new float32 array (H, W, 3) in [0, 1], coded as in the file; grey is repeated, alpha left out."""
        colours = self.pixels[..., : self._colours].astype(np.float32)
        colours /= np.float32(self._maximum)
        return colours if self._colours == 3 else np.repeat(colours, 3, axis=-1)

    def luma(self) -> FloatArray:
        """Brightness, float32 (H, W) in [0, 1]: Rec. 601 luma of the coded colours."""
        return self.rgb() @ _LUMA if self._colours == 3 else self.rgb()[..., 0]

    def alpha(self) -> FloatArray:
        """Opacity, float32 (H, W) in [0, 1]; all 1 without an alpha channel."""
        if not self.has_alpha:
            return np.ones(self.size, np.float32)
        return self.pixels[..., -1].astype(np.float32) / np.float32(self._maximum)

    def with_rgb(self, rgb: FloatArray, support: BoolArray) -> Picture:
        """A picture that differs only where `support` (H, W) is True: there it has the colours
        `rgb` (H, W, 3) in [0, 1] and is opaque.

        Grey pictures get the luma; 16-bit pictures are written at 16 bits. Raises `SizeMismatchError`, and
        `NonFiniteError` for NaN or infinity inside the support.
        """
        if rgb.shape != (*self.size, 3) or support.shape != self.size:
            raise SizeMismatchError(
                f"colours {rgb.shape} and support {support.shape} do not fit a picture of "
                f"{describe(self.size)}; resize them to it first"
            )
        support = support.astype(bool, copy=False)
        painted = rgb[support]
        if not np.isfinite(painted).all():
            bad = int((~np.isfinite(painted).all(axis=-1)).sum())
            raise NonFiniteError(
                f"the model gave NaN or infinity in {bad} of {len(painted)} pixels; "
                "try another seed, or a higher precision such as float32"
            )
        if self._colours == 1:
            painted = (painted @ _LUMA)[:, None]
        pixels = self.pixels.copy()
        values = np.rint(np.clip(painted, 0.0, 1.0) * np.float32(self._maximum)).astype(pixels.dtype)
        if self.has_alpha:
            values = np.concatenate([values, np.full_like(values[:, :1], self._maximum)], axis=-1)
        pixels[support] = values
        return replace(self, pixels=pixels)

    def save(self, path: str | Path, *, text: dict[str, str] | None = None, overwrite: bool = False) -> None:
        """Write PNG, JPEG, WebP (lossless) or TIFF, by suffix, whole or not at all; `text` goes into PNG as
        iTXt.

        JPEG warns, for it changes every pixel a little. Raises `OutputFormatError`, `OutputExistsError`,
        `DiskFullError` or `OutputError`.
        """
        check_writable(path, overwrite=overwrite)
        data = encode(self.pixels, Path(path), self.icc_profile, self.dpi, self.exif, text or {})
        write_file_atomically(path, data, overwrite=overwrite)

    @property
    def _colours(self) -> int:
        return 1 if self.pixels.shape[2] <= 2 else 3

    @property
    def _maximum(self) -> int:
        return 65535 if self.pixels.dtype == np.uint16 else 255
