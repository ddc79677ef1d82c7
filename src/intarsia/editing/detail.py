"""Keeping what the local window shows finer than the global one can."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intarsia.imaging import Window

FloatArray = NDArray[np.float32]


def add_lost_detail(
    scene: FloatArray, local: FloatArray, window: Window, global_window: Window, global_size: tuple[int, int]
) -> FloatArray:
    """scene + (L - up(down(L))) inside the local window; all colours float32 in [0, 1].

    L is the local window's picture at scene resolution (H, W, 3 of the window); down and up go through the
    resolution that the global stage, painted at `global_size` (height, width), has for this window: what is
    lost on that way is what the global stage could not hold. Where it lost nothing the scene comes back as
    it is.
    """
    painted = Window.resize(local, window.size)
    held = tuple(
        max(1, round(side * size / whole))
        for side, size, whole in zip(window.size, global_size, global_window.size, strict=True)
    )
    if held[0] >= min(window.height, local.shape[0]) and held[1] >= min(window.width, local.shape[1]):
        return scene
    down = Window.resize(painted, (min(held[0], window.height), min(held[1], window.width)), "area")
    detail = painted - Window.resize(down, window.size, "bicubic")
    result = np.array(scene, np.float32)
    window.crop(result)[...] += detail
    return np.clip(result, 0.0, 1.0).astype(np.float32)
