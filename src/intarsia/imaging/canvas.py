"""`Margins`: a larger canvas around a picture, and the frame of it that has to be painted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from intarsia.errors import KnobError, TooLargeError
from intarsia.imaging.arrays import Size, describe
from intarsia.imaging.mask import Mask
from intarsia.imaging.picture import Picture
from intarsia.imaging.window import Window

Anchor = Literal["center", "left", "right", "top", "bottom", "top-left", "top-right", "bottom-left", "bottom-right"]
MAXIMUM_GROWTH = 4.0
MAXIMUM_SIDE = 16384


@dataclass(frozen=True)
class Margins:
    """By how many pixels a picture grows at each side."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def __post_init__(self) -> None:
        if min(self.left, self.right, self.top, self.bottom) < 0:
            raise KnobError(f"{self} would cut the picture; each side must be 0 or more")

    @classmethod
    def of_ratio(cls, size: Size, ratio: float, anchor: Anchor = "center") -> Margins:
        """The margins that make a picture of `size` (height, width) fill `ratio` of the canvas's sides.

        `anchor` says where in the canvas the picture stands; in the middle where it says nothing. An odd pixel
        goes to the right or bottom.
        """
        if not 0 < ratio <= 1:
            raise KnobError(f"ratio {ratio} is no share of the canvas; use a number above 0 and at most 1")
        height, width = (round(side / ratio) - side for side in size)
        left = {"left": 0, "right": width}.get(anchor.split("-")[-1], width // 2)
        top = {"top": 0, "bottom": height}.get(anchor.split("-")[0], height // 2)
        return cls(left=left, right=width - left, top=top, bottom=height - top)

    def canvas(self, size: Size) -> Size:
        """(height, width) of the canvas around a picture of `size`."""
        return self.top + size[0] + self.bottom, self.left + size[1] + self.right

    def place(self, size: Size) -> Window:
        """Where in the canvas the picture of `size` lies."""
        return Window(self.top, self.left, *size)

    def kept(self, size: Size, rim: int) -> Window:
        """What of the picture stays as it is: all but `rim` pixels along the sides that grow.

        Raises:
            KnobError: the rim leaves nothing.
        """
        left, right, top, bottom = (rim if side else 0 for side in (self.left, self.right, self.top, self.bottom))
        height, width = size[0] - top - bottom, size[1] - left - right
        if rim < 0 or height < 1 or width < 1:
            raise KnobError(f"rim {rim} leaves nothing of a picture of {describe(size)}; use a smaller one")
        return Window(self.top + top, self.left + left, height, width)

    def check(self, size: Size) -> Margins:
        """These margins, if a picture of `size` may grow by them.

        Raises:
            KnobError: nothing to grow. TooLargeError: more than four times the area, or a side too long.
        """
        if self == Margins():
            raise KnobError("there is nothing to grow; give left, right, top or bottom, or a ratio below 1")
        canvas = self.canvas(size)
        growth = canvas[0] * canvas[1] / (size[0] * size[1])
        if growth > MAXIMUM_GROWTH:
            raise TooLargeError(
                f"from {describe(size)} to {describe(canvas)} is {growth:.1f} times the area; at most "
                f"{MAXIMUM_GROWTH:g} times at once: grow in several steps"
            )
        if max(canvas) > MAXIMUM_SIDE:
            raise TooLargeError(
                f"the new picture would be {describe(canvas)}; its sides may have at most {MAXIMUM_SIDE} px"
            )
        return self


def extend_canvas(picture: Picture, margins: Margins) -> Picture:
    """The picture on its canvas: its pixels byte for byte, all zero around it; mode, depth, profile kept."""
    pixels = np.zeros((*margins.canvas(picture.size), picture.pixels.shape[2]), picture.pixels.dtype)
    margins.place(picture.size).crop(pixels)[...] = picture.pixels
    return replace(picture, pixels=pixels)


def frame_around(canvas: Size, window: Window) -> Mask:
    """All of a canvas but the window."""
    array = np.ones(canvas, bool)
    window.crop(array)[...] = False
    return Mask(array)
