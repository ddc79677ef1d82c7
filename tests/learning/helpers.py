"""Photos without a camera, and a painter without a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intarsia.imaging import Picture
from intarsia.learning import Photos

Array = NDArray[Any]


def photo_arrays(count: int = 2, size: tuple[int, int] = (70, 90)) -> tuple[list[Array], list[Array]]:
    """Noise with a darker block that stands somewhere else in each."""
    rng = np.random.default_rng(5)
    images, masks = [], []
    for index in range(count):
        mask = np.zeros(size, bool)
        mask[18:50, 20 + 6 * index : 48 + 6 * index] = True
        image = rng.random((*size, 3)).astype(np.float32)
        image[mask] *= 0.3
        images.append(image)
        masks.append(mask)
    return images, masks


def some_photos(count: int = 2) -> Photos:
    return Photos.from_arrays(*photo_arrays(count))


def write_png(path: Path, array: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.rint(array * 255).astype(np.uint8) if array.dtype != np.uint8 else array
    Picture.from_array(values).save(path)
    return path


class NoisePainter:
    """Fills the mask with noise of the seed, and remembers what it was asked."""

    def __init__(self, change: Callable[[Array], Array] = lambda values: values) -> None:
        self.asked: list[tuple[str, int]] = []
        self.scenes: list[tuple[Array, Array]] = []
        self.change = change

    def __call__(self, scene: Array, mask: Array, prompt: str, seed: int, /) -> Array:
        self.asked.append((prompt, seed))
        self.scenes.append((scene, mask))
        painted = scene.copy()
        painted[mask] = np.random.default_rng(seed).random((int(mask.sum()), 3))
        return self.change(painted)


class SaysRed:
    """A namer."""

    def name(self, images: Any, masks: Any, class_noun: str) -> dict[str, list[str]]:
        return {"colour": ["red"], "material": ["clay"]}
