"""Cut and paste: a subject's photo put into the mask with seamless blending, no model at all."""

from __future__ import annotations

import math
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from intarsia.evaluation.bench.errors import BenchError
from intarsia.imaging import Mask, Window

Pixels = NDArray[np.uint8]
Bools = NDArray[np.bool_]
PASTE_VERSION = 2
"""Results of another version are not mixed with these."""
_RIM = 6
"""Pixels of the photo's background around the silhouette that are blended with it: OpenCV takes its border values three
pixels further in, and there the background must stand, not the subject, whose colours would be lost."""


def require_blending() -> None:
    """Raise BenchError where OpenCV is missing."""
    if find_spec("cv2") is None:
        raise BenchError(
            "method cut_and_paste needs OpenCV: pip install 'opencv-python-headless<6', or leave the method out"
        )


def cut_and_paste(scene: Pixels, mask: Bools, photo: Pixels, silhouette: Bools) -> Pixels:
    """The photo's subject, as large as the mask's box allows and standing on its lower edge, blended into the scene
    inside the mask (Poisson image editing, Pérez et al. 2003, by OpenCV's `seamlessClone`).

    All uint8 (H, W, 3) or bool (H, W); photo and silhouette of another size than scene and mask. Outside the mask the
    scene comes back as it is.
    """
    import cv2

    require_blending()
    top, left, height, width = Mask(mask).box
    y, x, h, w = Mask(silhouette).box
    scale = min(height / h, width / w)
    # The subject with its surroundings, in the scene's pixels: blending needs a rim of them around the silhouette.
    around = math.ceil(2 * _RIM / scale)
    part = slice(max(0, y - around), y + h + around), slice(max(0, x - around), x + w + around)
    photo, silhouette = photo[part], silhouette[part]
    whole = max(1, round(photo.shape[0] * scale)), max(1, round(photo.shape[1] * scale))
    small = Window.resize(photo.astype(np.float32), whole)
    cut = Window.resize(silhouette.astype(np.float32), whole) > 0.5
    if not cut.any():
        return scene.copy()
    rows, columns = np.flatnonzero(cut.any(1)), np.flatnonzero(cut.any(0))
    bottom, middle = int(rows[-1]) + 1, int(columns[0] + columns[-1] + 1) // 2
    # Canvases larger than the scene, so that neither the rim nor a photo beyond the edge can leave them.
    border = max(whole) + 2 * _RIM
    down, right = border + top + height - bottom, border + left + width // 2 - middle
    base = cv2.copyMakeBorder(scene, border, border, border, border, cv2.BORDER_REPLICATE)
    source, where = base.copy(), np.zeros(base.shape[:2], np.uint8)
    wide = cv2.dilate(np.pad(cut, _RIM).astype(np.uint8), np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8))
    padded = cv2.copyMakeBorder(_bytes(small), _RIM, _RIM, _RIM, _RIM, cv2.BORDER_REPLICATE)
    area = slice(down - _RIM, down - _RIM + len(wide)), slice(right - _RIM, right - _RIM + wide.shape[1])
    source[area], where[area] = padded, wide * np.uint8(255)
    # seamlessClone centres the mask's bounding box on the given point: here, where it is already. It spoils its mask.
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    centre = (int(columns[0] + columns[-1] + 1) // 2, int(rows[0] + rows[-1] + 1) // 2)
    blended = cv2.seamlessClone(source, base, where.copy(), centre, cv2.NORMAL_CLONE)
    inside = (where > 0)[border:-border, border:-border] & mask
    result = scene.copy()
    result[inside] = blended[border:-border, border:-border][inside]
    return result


def _bytes(values: NDArray[np.float32]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
