"""`Mask`: which pixels of a scene are to be repainted. White, that is True, means repaint."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intarsia.errors import (
    BoxError,
    EmptyMaskError,
    FullMaskError,
    IntarsiaWarning,
    KnobError,
    MaskError,
    MaskSizeError,
)
from intarsia.imaging.arrays import BoolArray, FloatArray, Size, describe, frozen
from intarsia.imaging.distance import bounding_box, distance_to
from intarsia.imaging.picture import Picture

MaskSource = Literal["white", "black", "alpha"]
_LARGE_SHARE = 0.9


@dataclass(frozen=True, eq=False)
class Mask:
    """A boolean array (H, W), read-only; True is repainted."""

    array: BoolArray

    def __post_init__(self) -> None:
        if self.array.ndim != 2 or self.array.dtype != np.bool_ or 0 in self.array.shape:
            raise MaskError(
                f"an array of shape {self.array.shape} and type {self.array.dtype} is no mask; "
                "give booleans of shape (height, width)"
            )
        object.__setattr__(self, "array", frozen(self.array))

    @classmethod
    def load(cls, path: str | Path, *, like: Size, source: MaskSource = "white") -> Mask:
        """Load a mask for a picture of size `like` (height, width).

        `source` says what is repainted: pixels brighter than 127 of 255 (`white`), the others (`black`), or
        those whose opacity is at most 127 (`alpha`: the erased part of the picture). Brightness ignores
        alpha. Raises what `Picture.load` raises, `MaskSizeError`, or `MaskError` for a file without the
        channel asked for.
        """
        if source not in ("white", "black", "alpha"):
            raise MaskError(f"mask source {source!r} is not known; use white, black or alpha")
        picture = Picture.load(path)
        if picture.size != like:
            raise MaskSizeError(
                f"the mask {path} is {describe(picture.size)} but the picture is {describe(like)} "
                "(width x height, upright); make the mask at the picture's size"
            )
        if source == "alpha":
            if not picture.has_alpha:
                raise MaskError(f"the mask {path} has no alpha channel; use white or black as its source")
            return cls(np.rint(picture.alpha() * 255) <= 127)
        bright = np.rint(picture.luma() * 255) > 127
        return cls(bright if source == "white" else ~bright)

    @classmethod
    def from_box(cls, box: str | tuple[int, int, int, int], size: Size) -> Mask:
        """A rectangle "x,y,w,h" in pixels of a picture of `size` (height, width); `BoxError` unless wholly
        inside."""
        x, y, width, height = _parse_box(box)
        if width < 1 or height < 1:
            raise BoxError(
                f"the box {x},{y},{width},{height} has no area; width and height must be at least 1"
            )
        if x < 0 or y < 0 or x + width > size[1] or y + height > size[0]:
            raise BoxError(
                f"the box {x},{y},{width},{height} (x,y,w,h) is not inside the picture of {describe(size)}; "
                f"x + w may be at most {size[1]} and y + h at most {size[0]}"
            )
        array = np.zeros(size, bool)
        array[y : y + height, x : x + width] = True
        return cls(array)

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> Mask:
        """A copy of booleans (H, W), or of uint8 values of which those above 127 are repainted."""
        if array.dtype == np.uint8:
            return cls(array > 127)
        return cls(np.array(array))

    @property
    def size(self) -> Size:
        """(height, width) in pixels."""
        return self.array.shape[0], self.array.shape[1]

    @property
    def share(self) -> float:
        """The part of the picture that is repainted, 0 to 1."""
        return float(self.array.mean())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(top, left, height, width) of the smallest rectangle around the mask; `EmptyMaskError` without
        any."""
        box = bounding_box(self.array)
        if box is None:
            raise EmptyMaskError(_EMPTY)
        return box

    def validate(self, allow_full: bool = False) -> Mask:
        """This mask, if there is something to repaint and something to keep (`allow_full`: nothing to keep
        is fine).

        Raises `EmptyMaskError` or `FullMaskError`; warns above 90 % coverage.
        """
        share = self.share
        if not share:
            raise EmptyMaskError(_EMPTY)
        if allow_full:
            return self
        if self.array.all():
            raise FullMaskError(
                "the mask is all white: nothing of the picture would be kept; "
                "leave some of it black (white = repaint)"
            )
        if share > _LARGE_SHARE:
            warnings.warn(
                f"the mask covers {share:.0%} of the picture; is it inverted (white = repaint)?",
                IntarsiaWarning,
                stacklevel=2,
            )
        return self

    def rectangle(self) -> Mask:
        """The whole of the mask's bounding box, its first and last rows and columns included."""
        top, left, height, width = self.box
        array = np.zeros(self.size, bool)
        array[top : top + height, left : left + width] = True
        return Mask(array)

    def grow(self, pixels: int) -> Mask:
        """The mask dilated by a disc of that radius in pixels."""
        _check_radius("growth", pixels)
        return Mask(distance_to(self.array, pixels) <= pixels) if pixels else self

    def feather(self, pixels: int) -> FloatArray:
        """Blend weights, float32 (H, W): 1 in the mask, a cosine ramp over that many pixels outside,
        exactly 0 beyond."""
        _check_radius("feather", pixels)
        distance = np.minimum(distance_to(self.array, pixels), pixels + 1)
        return (0.5 + 0.5 * np.cos(np.pi * distance / (pixels + 1))).astype(np.float32) * (distance <= pixels)

    def to_latent(self, size: Size) -> BoolArray:
        """Coverage of a grid (h, w), by max-pooling at any ratio: a cell that overlaps a masked pixel at
        all is True."""
        pooled: BoolArray = self.array
        for axis, cells in enumerate(size):
            pooled = _pool(pooled, axis, cells)
        return pooled


_EMPTY = (
    "the mask is empty: nothing to repaint; paint the place white (white = repaint), or give a box x,y,w,h"
)


def _pool(array: BoolArray, axis: int, cells: int) -> BoolArray:
    length = array.shape[axis]
    counts = np.cumsum(np.moveaxis(array, axis, 0), axis=0, dtype=np.int32)
    counts = np.concatenate([np.zeros_like(counts[:1]), counts])
    edges = np.arange(cells + 1) * length
    start, end = edges[:-1] // cells, -(-edges[1:] // cells)
    return np.moveaxis(counts[end] > counts[start], 0, axis)


def _check_radius(name: str, pixels: int) -> None:
    if pixels < 0:
        raise KnobError(f"{name} is {pixels} px; it must be 0 or more")


def _parse_box(box: str | tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    try:
        parts = (
            [int(part) for part in box.split(",")] if isinstance(box, str) else [index(part) for part in box]
        )
        x, y, width, height = parts
    except (ValueError, TypeError) as error:
        raise BoxError(
            f'the box {box!r} is not "x,y,w,h" with four whole numbers; for example 40,60,128,96'
        ) from error
    return x, y, width, height
