"""Cut and paste: a subject's photo put into the mask with seamless blending, no model at all."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from intarsia.evaluation.bench.errors import BenchError
from intarsia.imaging import Mask, Window

Pixels = NDArray[np.uint8]
Bools = NDArray[np.bool_]
_RIM = 2
"""Pixels of the photo's background that are blended around the silhouette."""


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
    size = max(2, round(h * scale)), max(2, round(w * scale))
    crop = Window.resize(photo[y : y + h, x : x + w].astype(np.float32), size)
    cut = Window.resize(silhouette[y : y + h, x : x + w].astype(np.float32), size) > 0.5
    # On canvases of the scene's size with a border, so that neither blending nor a mask at the edge can leave them.
    border = _RIM + 2
    base = cv2.copyMakeBorder(scene, border, border, border, border, cv2.BORDER_REPLICATE)
    source, where = base.copy(), np.zeros(base.shape[:2], np.uint8)
    down = border + top + height - size[0]
    right = border + left + (width - size[1]) // 2
    pixels = np.clip(np.rint(crop), 0, 255).astype(np.uint8)
    source[down : down + size[0], right : right + size[1]] = pixels
    where[down : down + size[0], right : right + size[1]] = cut * np.uint8(255)
    if not where.any():
        return scene.copy()
    # seamlessClone moves the mask's bounding box to be centred on the given point: here, where it is already.
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    centre = (int(columns[0] + columns[-1] + 1) // 2, int(rows[0] + rows[-1] + 1) // 2)
    blended = cv2.seamlessClone(source, base, where, centre, cv2.NORMAL_CLONE)
    inside = (where > 0)[border:-border, border:-border] & mask
    result = scene.copy()
    result[inside] = blended[border:-border, border:-border][inside]
    return result
