"""Mask shapes as users draw them, from coarse to fine, around a subject's silhouette."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from intarsia.imaging import Mask
from intarsia.learning.config import MaskShape

BoolArray = NDArray[np.bool_]
_ROOM = 0.25
_POINTS = 16


def draw_mask(shape: MaskShape, silhouette: BoolArray, rng: Generator) -> BoolArray:
    """A mask (H, W) that covers the silhouette (H, W, not empty) and lies in the same picture.

    "box": its box with up to 25 % to spare on each side. "bulge": the paper's, a box whose sides are
    quadratic Bézier curves pushed outwards by 10 to 50 % of its size. "silhouette": the outline grown by 1
    to 8 % of its size.
    """
    if shape == "silhouette":
        height, width = Mask(silhouette).box[2:]
        pixels = max(1, round(float(rng.uniform(0.01, 0.08)) * max(height, width)))
        return Mask(silhouette).grow(pixels).array
    corners = _box(silhouette, rng) if shape == "box" else _bulge(silhouette, rng)
    image = Image.new("L", (silhouette.shape[1], silhouette.shape[0]), 0)
    ImageDraw.Draw(image).polygon(corners, fill=255)
    return (np.asarray(image) > 127) | silhouette


def _box(silhouette: BoolArray, rng: Generator) -> list[tuple[float, float]]:
    top, left, height, width = Mask(silhouette).box
    room = rng.uniform(0.0, _ROOM, 4)
    x0, x1 = left - room[0] * width, left + width - 1 + room[1] * width
    y0, y1 = top - room[2] * height, top + height - 1 + room[3] * height
    return [(float(x), float(y)) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]


def _bulge(silhouette: BoolArray, rng: Generator) -> list[tuple[float, float]]:
    top, left, height, width = Mask(silhouette).box
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64) * (width - 1, height - 1) + (left, top)
    outward = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)], np.float64)
    push = rng.uniform(0.1, 0.5) * np.array([width, height])
    jitter = rng.uniform(0.0, 0.03) * max(width, height)
    points = []
    for index in range(4):
        start, end = corners[index], corners[(index + 1) % 4]
        control = (start + end) / 2 + outward[index] * push
        for t in np.linspace(0, 1, _POINTS, endpoint=False):
            point = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t * t * end
            points.append(point + rng.uniform(-jitter, jitter, 2))
    return [(float(x), float(y)) for x, y in points]
