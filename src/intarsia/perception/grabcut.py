"""Cutting the subject out by GrabCut (Rother, Kolmogorov, Blake 2004), through OpenCV: no model, no download."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from intarsia.perception.cutters import CutOrigin, checked_box, widened
from intarsia.perception.errors import CutOutError
from intarsia.perception.helpers import BoolArray, Box, FloatArray, Pixels

_CONTEXT = 0.5
_MIDDLE = 0.15
_CORE = 0.3
_LEAST_PART = 0.1
_BAND = 6
_MIXTURE = 5
"""Gaussians of each side's colour model in OpenCV: it needs as many pixels."""


@dataclass(frozen=True)
class GrabCutter:
    """Two colour mixtures and a minimum cut, first small, then along the outline at a larger size.

    Told a box, the ellipse in it is probably subject, its middle certainly, its corners probably ground, and all
    outside certainly. Not told one, it takes the middle 70 % of the photo (on real photos a better box than that of
    `estimate_mask`). Of what is found, parts of at least a tenth of the largest are kept and holes filled. The same
    photo and box give the same mask.

    Args:
        side, rounds: longer side in pixels of the box with its surroundings, and iterations, of the first cut.
        fine_side: the same of the second, which decides only within 6 pixels of the first's outline.
    """

    side: int = 256
    rounds: int = 5
    fine_side: int = 512
    name: str = "grabcut"
    origin: CutOrigin = "grabcut"

    def __post_init__(self) -> None:
        if find_spec("cv2") is None:
            raise CutOutError(
                "GrabCut needs OpenCV, which is not installed: pip install 'opencv-python-headless<6'"
            )
        if min(self.side, self.fine_side, self.rounds) < 1:
            raise CutOutError(
                f"side {self.side}, fine side {self.fine_side} and rounds {self.rounds} of GrabCut must be 1 or more"
            )

    def cut(self, rgb: FloatArray, class_noun: str = "", box: Box | None = None) -> BoolArray:
        """See `SubjectCutter.cut`; the class noun is not used."""
        height, width = rgb.shape[:2]
        dx, dy = math.floor(_MIDDLE * width), math.floor(_MIDDLE * height)
        place = (dx, dy, width - 2 * dx, height - 2 * dy) if box is None else checked_box(box, rgb)
        left, top, width, height = widened(place, _CONTEXT, rgb)
        window = np.rint(np.clip(rgb[top : top + height, left : left + width], 0, 1) * 255).astype(np.uint8)
        mask = np.zeros(rgb.shape[:2], bool)
        with _repeatable():
            found = self._cut(window, (place[0] - left, place[1] - top, place[2], place[3]))
        mask[top : top + height, left : left + width] = found
        return mask

    def _cut(self, window: Pixels, box: Box) -> BoolArray:
        coarse, scale = _smaller(window, self.side)
        x, y, w, h = (value * scale for value in box)
        rows, columns = np.mgrid[: coarse.shape[0], : coarse.shape[1]]
        # 1 on the box's edges.
        u, v = np.abs(columns + 0.5 - x - w / 2) / (w / 2), np.abs(rows + 0.5 - y - h / 2) / (h / 2)
        radius = np.hypot(u, v)
        labels = np.where(np.maximum(u, v) < 1, 2, 0).astype(np.uint8)
        labels[radius < 1] = 3
        labels[radius < _CORE] = 1
        first = _whole(_solved(coarse, labels, self.rounds))
        if not first.any():  # a box of less than a pixel at this size
            first = np.maximum(u, v) <= max(1.0, float(np.maximum(u, v).min()))
        fine, _ = _smaller(window, self.fine_side)
        if fine.shape != coarse.shape:
            first = self._refined(fine, _resized(first, fine))
        return _resized(first, window)

    def _refined(self, fine: Pixels, rough: BoolArray) -> BoolArray:
        import cv2

        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _BAND + 1, 2 * _BAND + 1))
        labels = np.where(rough, 3, 2).astype(np.uint8)
        labels[cv2.erode(rough.astype(np.uint8), disc) > 0] = 1
        labels[cv2.dilate(rough.astype(np.uint8), disc) == 0] = 0
        refined = _whole(_solved(fine, labels, 1))
        return refined if refined.any() else rough


@contextmanager
def _repeatable() -> Iterator[None]:
    """OpenCV's random numbers seeded, and one thread, for threads share out the drawing of them."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    cv2.setRNGSeed(0)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _solved(pixels: Pixels, labels: NDArray[np.uint8], rounds: int) -> BoolArray:
    """GrabCut from labels (H, W): 0 ground, 1 subject, 2 and 3 probably; too few pixels of a side stay as labelled."""
    import cv2

    subject = labels % 2 == 1
    if min(int(subject.sum()), int((~subject).sum())) >= _MIXTURE:
        subjects, grounds = (np.zeros((1, 13 * _MIXTURE)) for _ in range(2))
        nowhere = (0, 0, 0, 0)  # the labels say where, no rectangle
        cv2.grabCut(np.ascontiguousarray(pixels), labels, nowhere, grounds, subjects, rounds, cv2.GC_INIT_WITH_MASK)
    return np.asarray(labels % 2 == 1)


def _whole(found: BoolArray) -> BoolArray:
    """The main parts with their holes filled."""
    import cv2

    count, parts, statistics, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8), connectivity=8)
    if count < 2:
        return found
    areas = statistics[1:, cv2.CC_STAT_AREA]
    main = np.isin(parts, 1 + np.flatnonzero(areas >= _LEAST_PART * areas.max()))
    _, ground = cv2.connectedComponents(np.pad(~main, 1, constant_values=True).astype(np.uint8), connectivity=4)
    return np.asarray((ground != ground[0, 0])[1:-1, 1:-1])


def _smaller(pixels: Pixels, side: int) -> tuple[Pixels, float]:
    """At most ``side`` pixels on the longer side, and the scale."""
    import cv2

    scale = side / max(pixels.shape[:2])
    if scale >= 1:
        return pixels, 1.0
    size = (math.ceil(pixels.shape[1] * scale), math.ceil(pixels.shape[0] * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _resized(mask: BoolArray, like: Pixels) -> BoolArray:
    import cv2

    size = (like.shape[1], like.shape[0])
    values = np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR))
    return np.asarray(values >= min(0.5, float(values.max())))  # of a very thin subject the best pixels stay
