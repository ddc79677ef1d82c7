"""Views of the photos as inference sees them: windows in which the subject fills a drawn share, with a
drawn mask.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from intarsia.imaging import Mask, Window
from intarsia.learning.config import LearnConfig
from intarsia.learning.mask_shapes import draw_mask
from intarsia.learning.photos import Photo, Photos

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class View:
    """`image` (h, w, 3) in [0, 1] at native size, `mask` (h, w) to repaint, `silhouette` (h, w) of the
    subject.
    """

    image: FloatArray
    mask: BoolArray
    silhouette: BoolArray


def seed_of(*parts: object) -> int:
    """A seed in [0, 2^63) from any texts and numbers, the same on every machine."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def draw_views(photos: Photos, config: LearnConfig, native: int, multiple: int, epoch: int) -> list[View]:
    """`windows_per_photo` views of every photo; another epoch gives others."""
    return [
        draw_view(photo, config, native, multiple, np.random.default_rng(seed_of(config.seed, epoch, index, k)))
        for index, photo in enumerate(photos.items)
        for k in range(config.windows_per_photo)
    ]


def draw_view(photo: Photo, config: LearnConfig, native: int, multiple: int, rng: Generator) -> View:
    """One view. The subject is never cut by the window; the mask covers all of it."""
    size = (photo.mask.shape[0], photo.mask.shape[1])
    window = Window.full(size)
    if config.zoom is not None:
        window = draw_window(Mask(photo.mask).box, size, float(rng.uniform(*config.zoom)), rng)
    image, silhouette = read_window(photo, window, window.native_size(native, multiple))
    if config.flip and rng.random() < 0.5:
        image, silhouette = image[:, ::-1].copy(), silhouette[:, ::-1].copy()
    shape = config.mask_shapes[int(rng.integers(len(config.mask_shapes)))]
    return View(image, draw_mask(shape, silhouette, rng), silhouette)


def draw_window(box: tuple[int, int, int, int], size: tuple[int, int], share: float, rng: Generator) -> Window:
    """A window around a box (top, left, height, width) whose longer side fills `share` of it, placed by
    chance.

    Square, unless the photo is too small for that.
    """
    longest = max(box[2:])
    side = math.ceil(longest / share)
    if longest <= min(size):
        side = min(side, *size)
    spans = []
    for start, length, limit in zip(box[:2], box[2:], size, strict=True):
        span = min(max(side, length), limit)
        low, high = max(0, start + length - span), min(start, limit - span)
        spans.append((int(rng.integers(low, high + 1)), span))
    (top, height), (left, width) = spans
    return Window(top, left, height, width)


def read_window(photo: Photo, window: Window, size: tuple[int, int]) -> tuple[FloatArray, BoolArray]:
    """The photo and the silhouette under a window at `size`; a thin silhouette never vanishes."""
    image = window.read(photo.rgb, size)
    cropped = window.crop(photo.mask)
    silhouette: BoolArray = Window.resize(cropped, size, "area") >= 0.5
    return image, silhouette if silhouette.any() else Mask(cropped.copy()).to_latent(size)
