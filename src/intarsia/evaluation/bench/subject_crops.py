"""What encoders get to see: a square around a mask, and a subject's photo with nothing else in it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from intarsia.evaluation.bench.errors import BenchError

Pixels = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
MARGIN = 1.15
"""Side of the square over the longer side of the mask's box, as the judges' crop has it."""
BACKGROUND = 128


def square_crop(pixels: Pixels, mask: Bools, margin: float = MARGIN) -> Pixels:
    """The square (S, S, 3) of (H, W, 3) around the box of the mask (H, W); beyond the picture its border repeats.

    Raises:
        BenchError: the mask is empty.
    """
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(ys):
        raise BenchError("a mask is empty, so nothing can be cut out around it: build the benchmark again")
    top, bottom, left, right = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
    side = math.ceil(max(bottom - top, right - left) * margin)
    rows = np.arange(side) + (top + bottom - side) // 2
    columns = np.arange(side) + (left + right - side) // 2
    return np.asarray(pixels[rows.clip(0, len(pixels) - 1)][:, columns.clip(0, pixels.shape[1] - 1)], np.uint8)


def subject_crop(pixels: Pixels, mask: Bools | None, *, cut_out: bool = True, margin: float = MARGIN) -> Pixels:
    """The square around the subject of a photo, all else grey if it is cut out; without a mask, the whole photo."""
    if mask is None:
        return pixels
    return square_crop(np.where(mask[..., None], pixels, np.uint8(BACKGROUND)) if cut_out else pixels, mask, margin)
